package shard

// Refers tells whether a task of an executor is known, and whether the value that it
// has now, its input or its result, is val.
func (s *Shard) Refers(name, id, val string) (known, refers bool) {
	o := s.names[name]
	if o == nil || o.gone || o.kind != KExecutor {
		return false, false
	}
	t := o.thing.(*executor).m.Find(id) //nolint:forcetypeassert // of that kind
	if t == nil {
		return false, false
	}
	return true, t.Val == val
}
