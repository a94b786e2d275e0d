package outcome

// entries are the attempts of one run by the keys of their commands. Most runs have one at a
// node: that needs no map.
type entries struct {
	first *entry
	more  map[string]*entry
}

func (x *entries) find(key string) *entry {
	if x.first != nil && x.first.key == key {
		return x.first
	}
	return x.more[key]
}

// put adds an entry, in the place of the one of its key if there is one.
func (x *entries) put(e *entry) {
	switch {
	case x.first != nil && x.first.key == e.key, x.first == nil && x.more[e.key] == nil:
		x.first = e
	case x.more == nil:
		x.more = map[string]*entry{e.key: e}
	default:
		x.more[e.key] = e
	}
}

// drop removes an entry, unless another has taken its place.
func (x *entries) drop(e *entry) {
	if x.first == e {
		x.first = nil
	} else if x.more[e.key] == e {
		delete(x.more, e.key)
	}
}

func (x *entries) none() bool { return x.first == nil && len(x.more) == 0 }

// all yields them, each of which may be dropped then.
func (x *entries) all(yield func(*entry) bool) {
	if x.first != nil && !yield(x.first) {
		return
	}
	for _, e := range x.more {
		if !yield(e) {
			return
		}
	}
}
