package operation

import (
	"fmt"

	"github.com/distgear/distgear/internal/machine/locks"
)

var verbs = map[Verb]string{
	VOpen: "open", VClose: "close", VDestroy: "destroy", VAbandon: "take back",

	VLock + Verb(locks.DoWant): "want", VLock + Verb(locks.DoAbandon): "take back", VLock + Verb(locks.DoRelease): "release",
	VLock + Verb(locks.DoBusy): "busy", VLock + Verb(locks.DoDowngrade): "downgrade", VLock + Verb(locks.DoWait): "wait",
	VLock + Verb(locks.DoNotify): "notify", VLock + Verb(locks.DoCancelWait): "end of a wait", VLock + Verb(locks.DoResume): "resume",

	VAcquire: "acquire", VRelease: "release",
	VAwait: "await", VTrip: "trip", VReset: "reset",
	VLatchDown: "count down", VLatchWait: "wait", VLatchLoad: "load",
	VGroupAdd: "add", VGroupWait: "wait",
	VCounterLoad: "load", VCounterAdd: "add", VCounterStore: "store", VCounterCompareAndSet: "compare and set",
	VMapLoad: "load", VMapStore: "store", VMapLoadOrStore: "load or store", VMapCompareAndSwap: "compare and swap", VMapDelete: "delete",
	VMapClear: "clear", VMapLen: "length", VMapRange: "range", VMapWatch: "watch", VMapUnwatch: "unwatch", VMapDrop: "drop",
	VPut: "put", VTake: "take", VDrain: "drain", VPeek: "peek", VQueueLen: "length", VTransfer: "transfer",
	VPublish: "publish", VSubscribe: "subscribe", VUnsubscribe: "unsubscribe",
	VConfigure: "configure", VSubmit: "submit", VWork: "work", VUnwork: "stop working", VDone: "report", VGiveBack: "give back",
	VProgress: "progress", VTask: "task", VWatch: "watch", VBatch: "watch a batch", VPause: "pause",
	VSchedule: "schedule", VUnschedule: "unschedule", VNextTime: "next time", VAppend: "entry", VSignal: "signal",
	VCampaign: "campaign", VResign: "resign", VObserve: "observe",
}

// String is the verb for people, with the kind of object that it is for.
func (v Verb) String() string {
	name := verbs[v]
	switch kind := v.Kind(); {
	case name == "":
		return fmt.Sprintf("verb %d", uint8(v))
	case kind == 0:
		return name
	default:
		return kind.String() + " " + name
	}
}
