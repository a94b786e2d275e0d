package shard

// The verbs of an executor. Bytes are those of package tasks. A list is applied
// as a whole or, when it is malformed, not at all: Invalid. Refused has in Aux the number of
// an error of package tasks (tasks.Error).
//
// Times of submitted tasks (NotBefore, Deadline) are ms from now. Those of
// schedules are ms since 1970, by the clock of the hub that writes.
const (
	VConfigure  Verb = Verb(KExecutor)<<4 + iota // Val: limits. OK
	VSubmit                                      // Val: specs, each with an ID; A: SubmitWaits | SubmitWatches. OK, maybe later: all are in. Refused (full, or abandoned): Num of them are in
	VWork                                        // Val: an offer. OK
	VUnwork                                      // OK
	VDone                                        // Val: reports. OK: Num of them were stale
	VGiveBack                                    // Val: leases. OK
	VProgress                                    // Val: progress. OK
	VTask                                        // Key: an ID, or B: a number; A: TaskCancel, TaskRetry, TaskPark; Val: why, of TaskPark. OK, Refused
	VWatch                                       // Key: an ID; A: WatchOnce, WatchOn, WatchOff. OK: Num is the task's number, Aux its State, Val with WatchOnce its End if there is one. Refused
	VBatch                                       // Key: its name. OK once all of it has ended: Num of them OK, Aux not; VAbandon takes it back
	VPause                                       // Key: why; empty: resume. OK
	VSchedule                                    // Key: its name; Val: a schedule. OK, Refused
	VUnschedule                                  // Key: its name. OK, Refused
	VNextTime                                    // Key: its name; A: its Last; B: its next time. OK
)

// A of VSubmit.
const (
	SubmitWaits   = 1 << iota // in line, when the executor is full; VAbandon takes back what waits
	SubmitWatches             // the session is told of the end of each
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
)

// What an executor tells a session that has it open (Req 0) has the code
// machine.Message. Num is the task's number, Aux a tasks.Code, and Val:
//
//	Run               tasks.AppendGrant
//	Recall, Stop      tasks.AppendLease
//	Finished          tasks.AppendEnd
//	Advanced          tasks.AppendAdvance
//	Refused           tasks.AppendRefusal: of a task that was submitted
//	Next              tasks.AppendAsk: one session that has the executor open is asked
