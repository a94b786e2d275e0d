// Package distgear lets a program written for one process run on many: events
// whose handlers run plans of commands on other nodes, with dependencies,
// timeouts, retries and rollback.
//
//	var Greet = &distgear.Action[string, string]{Name: "greet",
//		Do: func(_ context.Context, name string) (string, error) { return "hello " + name, nil }}
//
//	n, err := distgear.Join(ctx, distgear.Config{}) // alone; DISTGEAR_HUB moves it into a cluster
//	err = n.Handle(Greet)
//	s, err := Greet.Call(ctx, n, distgear.Any(), "world")
//
// # Guarantees
//
// A command runs at most once per attempt, and a step never has two attempts
// at once. A failed plan with Rollback is undone in reverse order of dependence:
// what was done, and what may have been. docs/guarantees.md has the sentences,
// each with its test.
//
// # Failures
//
// Every command ends as one of four: OK; failed (*RemoteError: it ran);
// never ran (ErrNoNode, ErrLeft, ErrOverloaded, ErrQueueTimeout, ErrInvalid);
// or ErrUnknown: nobody confirmed anything. OutcomeOf tells them apart.
package distgear
