package operation

// The verbs of an executor. Bytes are those of package tasks. A list is applied
// as a whole or, when it is malformed, not at all: Invalid. Refused has in Aux the number of
// an error of package tasks (words.Error).
//
// Times of submitted tasks (NotBefore, Deadline) are ms from now. Those of
// schedules are ms since 1970, by the clock of the hub that writes; the Deadline of a
// schedule's task is ms after its time.
const (
	VConfigure  Verb = Verb(KExecutor)<<4 + iota // Val: limits. OK
	VSubmit                                      // Val: specs, each with an ID; A: SubmitWaits | SubmitWatches. OK, maybe later: all are in. Refused (full, or abandoned: Aux 0): Num of them are in
	VWork                                        // Val: an offer. OK
	VUnwork                                      // OK
	VDone                                        // Val: reports. OK: Num of them were stale
	VGiveBack                                    // Val: leases; A: 1 says that they were recalled and have started: they are kept. OK
	VProgress                                    // Val: progress. OK
	VTask                                        // Key: an ID, or if it is empty B: a number; A: TaskCancel … or RunCancel …; Val: why. OK, Refused
	VWatch                                       // Key: an ID; A: WatchOnce, WatchOn, WatchOff. OK: Num is the task's number, Aux its State, Val with WatchOnce its End if there is one. Refused
	VBatch                                       // Key: its name. OK once all of it has ended: Num of them OK, Aux not; VAbandon takes it back
	VPause                                       // Key: why; empty: resume. OK
	VSchedule                                    // Key: its name; Val: a schedule. OK, Refused
	VUnschedule                                  // Key: its name; A: 0, or SchedulePause or ScheduleResume, and it stays. OK, Refused
	VNextTime                                    // Key: its name; A: its Last; B: its next time; 0: it ends. OK
	VAppend                                      // Val: runs.Entry of the run whose lease it names. OK, Stale, Refused
	VSignal                                      // Key: an ID; Val: runs.Signal without a number. OK: Num is its number; Refused
)

// A of VSubmit.
const (
	SubmitWaits   = 1 << iota // in line, when the executor is full; VAbandon takes back what waits
	SubmitWatches             // the session is told of the end of each
	SubmitRuns                // they are runs of durable events: one that is known under its ID, with another kind or input, makes the answer Refused, and none is taken up
	SubmitForks               // likewise, one, which goes on from the journal in Key (runs.Run.Fork)
)

// A of VUnschedule.
const (
	SchedulePause = 1 + iota
	ScheduleResume
)

// A of VTask.
const (
	TaskCancel = 1 + iota
	TaskRetry
	TaskPark
)

// A of VWatch.
const (
	WatchOnce = iota // look, and no more
	WatchOn          // tell of the end, at once if it has ended
	WatchOff
	WatchRun // look at a run: Val is runs.AppendView
)

// What an executor tells a session that has it open (Req 0) has the code
// machine.Message. Num is the task's number, Aux a tasks.Code, and Val:
//
//	Run               words.AppendGrant; Key: of a run, runs.AppendLease
//	Recall, Stop      words.AppendLease
//	Finished          words.AppendEnd
//	Advanced          words.AppendAdvance
//	Refused           words.AppendRefusal: of a task that was submitted
//	Next              words.AppendAsk: one session that has the executor open is asked
//
// A Recall is answered by VGiveBack, unless the report is on its way.

// RunSignal is the Aux of what the owner of a run is told of a signal: Val is
// runs.AppendSignal. It follows the codes of package tasks.
const RunSignal = 64

// Lifecycle is what the name of an executor has behind it in that of the topic that tells
// what becomes of its tasks, if somebody subscribes to it.
const Lifecycle = " lifecycle"

// What VTask does to a run: A, following those for any task.
const (
	RunCancel    = 16 + iota // undo what there is to undo; a run that nobody has begun ends at once
	RunAdopt                 // a parked one goes on with plans of another shape
	RunUnwind                // one that has ended and kept its journal is undone
	RunTerminate             // it ends without being undone; Val: why
	RunNote                  // nothing but what its journal says: Val: a verb, a zero, and to what or why
)

// Who does that, as far as it is known, is in front of Val, with as many bytes as B says; so it is with
// VSignal.
