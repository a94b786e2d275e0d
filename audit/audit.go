// Package audit says who operates durable runs, so that their journals tell.
//
//	err := n.TerminateRun(audit.By(ctx, "anna"), "deploy-7", "the machine is gone")
//
// # Guarantees
//
// What is done to a durable run from outside is noted beside its journal, for as long as the run is
// known, in the same entry of the ledger: when, from which node, what and why, and by whom if the
// context says so. That is so for CancelRun, TerminateRun, AdoptRun, ForkRun and ResolveUndo of
// distgear.Node, and for SignalRun and ApproveRun if the context says by whom: programs send many. The
// latest 32 are kept. FindRun's Journal has them (record.Operated); `distgear runs show` draws them.
//
// # Failures
//
// A name is what somebody says, and nobody's proof. What decides about an undo, or makes a fork, is
// done also when it cannot be noted.
package audit

import (
	"context"
	"strings"
)

type byKey struct{}

// By returns a context that says who acts, in at most 100 bytes: the first count.
func By(ctx context.Context, who string) context.Context {
	if len(who) > maxWho {
		who = who[:maxWho]
	}
	return context.WithValue(ctx, byKey{}, strings.ToValidUTF8(who, ""))
}

// maxWho is how long a name may be, in bytes.
const maxWho = 100

// Who is what By said; empty: nothing.
func Who(ctx context.Context) string {
	who, _ := ctx.Value(byKey{}).(string)
	return who
}
