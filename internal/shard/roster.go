package shard

import (
	"encoding/json"

	"github.com/distgear/distgear/internal/machine/members"
	"github.com/distgear/distgear/internal/operation"
)

// The ledger keeps who is a member: what the authority of the writer's hub decided,
// by its clock, is an entry like others, and told when that is in the log
// (docs/adr/0006).

// AppendDecisions appends the entry of what was decided. Loads are left out.
func AppendDecisions(b []byte, d *members.Decisions) ([]byte, error) {
	plain := members.Decisions{Changes: make([]members.Changed, len(d.Changes)), Told: d.Told}
	for i, c := range d.Changes {
		c.Member.Load = members.Load{}
		plain.Changes[i] = c
	}
	data, err := json.Marshal(&plain)
	if err != nil {
		return b, err
	}
	return operation.AppendEntry(b, &operation.Entry{Type: operation.EntryMembers, Session: operation.Nobody, Decisions: data}), nil
}

func (s *Shard) decided(decisions []byte) {
	var d members.Decisions
	if json.Unmarshal(decisions, &d) == nil {
		s.roster.Apply(&d)
	}
}

// View is the number of the last change of who is a member.
func (s *Shard) View() uint64 { return s.roster.Version() }

// Roster is a copy of who is a member.
func (s *Shard) Roster() *members.Roster { return s.roster.Clone() }
