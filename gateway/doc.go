// Package gateway serves a node of DistGear over HTTP: raise events, follow and
// operate their runs, see the members. It is an http.Handler over the methods of
// one Node, so any node may have one, or several.
//
//	n, err := distgear.Join(ctx, distgear.Config{})
//	…
//	err = gateway.Serve(ctx, n, "", gateway.Config{}) // on 127.0.0.1:8422 until ctx ends
//
//	curl localhost:8422/v1/events/deploy -d '{"name":"data"}'         # the result
//	curl localhost:8422/v1/events/deploy?async -d '{"name":"data"}'   # 202 {"run":"…"}
//	curl localhost:8422/v1/runs/ID/events                             # server-sent events
//
// A durable event is raised the same way, and answered when its run is kept for good;
// raised again under its id it is the same run, with another input 409. Its run is
// operated by POST to /v1/runs/ID/signal {"name": NAME, "value": ANY}, approve {"name":
// NAME, "approved": BOOLEAN}, adopt, fork {"from": STEP}, and terminate {"reason": WHY};
// GET /v1/runs/ID/journal tells what happened in it, as a stream too, owned by a node or not.
//
// GET /v1/locks, objects, queues, sessions and doctor tell what the hub knows of
// shared objects and of itself; with Accept: text/event-stream now and, looked at
// every second, when it has changed.
//
// GET /v1/executors lists executors, /v1/executors/NAME/tasks their tasks; POST to the
// latter submits one, {"action": NAME, "input": ANY}, and POST to a task's cancel,
// retry or park, or to an executor's pause or resume, does that. GET /v1/schedules
// lists schedules; /v1/schedules/NAME, of an executor /v1/executors/NAME/schedules/NAME,
// takes GET and DELETE, and POST to its pause, resume and run.
//
// GET /v1/openapi.json describes every path and shape. A raise takes the query
// parameters async, wait=5s (then 202), id=ID (idempotency) and delay=5s. POST /
// with {"event": NAME, "parameters": ANY} is there for programs written for the
// original: always answered 200 {"status": "success"|"fail", "result": ANY}.
//
// # Guarantees
//
// Every request is answered: with a result, with 202 and the id of a run, or
// with a problem whose outcome says what is known: "never ran", "failed"
// ("clean": true when nothing was changed) or "unknown". No input makes a 500.
// Nothing is retried here: a caller that raises again after "unknown" does so
// under the same id.
//
// A client that goes away does not cancel its run; POST /v1/runs/{id}/cancel does.
// A run that was answered with 202 can be asked for at once. Until it begins (its
// state is waiting) only the gateway that accepted it knows of it, and it cannot
// be cancelled; one that never began is remembered by that gateway, among the
// last 1000 that failed.
//
// Without a token only loopback is served: Listen refuses other addresses,
// requests that came over another are answered 403, and so are those of web
// pages: any with a Host that is not this machine's, and from another Origin what
// is no GET (of whose answer a page sees nothing). With a token every request needs
// it. HTTP is not encrypted: beyond loopback put a server with TLS in front, or New
// into one.
//
// A stream tells the present state and every change after it; changes in quick
// succession may be told as one. It resumes after Last-Event-ID, but that of a journal,
// which begins anew. A gateway that
// stops ends its streams and answers waiting raises within Config.Grace.
//
// # Failures
//
// Problems are application/problem+json (RFC 9457); type ends in the word here:
//
//	400 bad-request         malformed query or JSON                      never ran
//	400 wrong-input         JSON that the event does not take            never ran
//	401 unauthorized        the token is missing or wrong                never ran
//	403 forbidden           no token, and not plainly from this machine  never ran
//	404 not-found           no such path                                 never ran
//	404 unknown-event       no live node handles it                      never ran
//	404 unknown-run         no node remembers it                         never ran
//	404 unknown-executor    nobody has it                                never ran
//	404 unknown-task        not known, or forgotten since it ended       never ran
//	404 unknown-schedule    there is none of the name                    never ran
//	405 method-not-allowed  Allow lists the others                       never ran
//	408 slow-body           longer under way than Config.Read            never ran
//	409 cancelled           the run was cancelled                        failed, never ran
//	409 conflict            the id is another run's, or it has not begun failed (clean), never ran
//	                        or the state of the run or task forbids it
//	413 too-large           larger than Config.MaxBody                   never ran
//	422 event-failed        the event's handler returned an error        failed
//	422 event-timed-out     … because its time was up                    failed
//	422 task-failed         the task's last attempt failed               failed
//	422 task-timed-out      … because its time was up                    failed
//	503 overloaded          no room now; Retry-After                     never ran
//	503 unavailable         the node or its hub is away; Retry-After     never ran
//	503 stopping            the gateway stops; Retry-After               unknown
//	504 outcome-unknown     no report came: it may have run              unknown
//	500 fault               a panic of the gateway's own, which is logged
package gateway
