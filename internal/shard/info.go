package shard

import (
	"maps"
	"slices"
	"time"

	"github.com/distgear/distgear/internal/machine"
)

// SessionInfo is what there is to tell of a session.
type SessionInfo struct {
	ID   machine.Session
	Name string // of the node
	TTL  time.Duration
}

// Sessions are the sessions, by ID. The answer is not nil.
func (s *Shard) Sessions() []SessionInfo {
	all := make([]SessionInfo, 0, len(s.sessions))
	for _, id := range slices.Sorted(maps.Keys(s.sessions)) {
		ses := s.sessions[id]
		all = append(all, SessionInfo{id, ses.name, TTL(ses.ttl)})
	}
	return all
}

// TTL is a time-to-live as an entry has it: in ms, at most a day.
func TTL(ms uint64) time.Duration { return time.Duration(min(ms, 86_400_000)) * time.Millisecond }
