package shared

import "github.com/distgear/distgear/internal/shard"

// aloneSize is what the queue of a process that is alone has to tell.
func (s *queueState[T]) aloneSize() (k sized, q QueueInfo) {
	k = sized{shard.KQueue.String(), s.name}
	if a := s.alone; a != nil {
		a.mu.Lock()
		q.Length = a.m.Length()
		q.Takers, q.Putters = a.m.Waiting()
		a.mu.Unlock()
	}
	return k, q
}

// aloneSize is what the map of a process that is alone has to tell.
func (s *mapState[K, V]) aloneSize() (k sized, q QueueInfo) {
	k = sized{shard.KMap.String(), s.name}
	if a := s.alone; a != nil {
		a.mu.Lock()
		q.Length = a.m.Entries()
		a.mu.Unlock()
	}
	return k, q
}
