package operation

// The verbs of a semaphore. Its parameter is how many permits there are.
const (
	VAcquire Verb = Verb(KSemaphore)<<4 + iota // A: permits; B: 1 does not wait
	VRelease                                   // A: permits
)

// The verbs of a barrier. Its parameter is how many parties it has.
const (
	VAwait Verb = Verb(KBarrier)<<4 + iota // A: 1 runs an action
	VTrip                                  // A: the request of the Await; B: 1: the action failed
	VReset
)

// The verbs of a latch. Its parameter is its count.
const (
	VLatchDown Verb = Verb(KLatch)<<4 + iota // Key: what is counted
	VLatchWait
	VLatchLoad
)

// The verbs of a wait group.
const (
	VGroupAdd Verb = Verb(KGroup)<<4 + iota // A: what is added, two's complement
	VGroupWait
)

// The verbs of a counter.
const (
	VCounterLoad          Verb = Verb(KCounter)<<4 + iota
	VCounterAdd                // A: what is added, two's complement
	VCounterStore              // A: the value
	VCounterCompareAndSet      // A: old; B: new
)

// The verbs of a map. What they are answered is said by package maps.
const (
	VMapLoad           Verb = Verb(KMap)<<4 + iota // Key; A: 1 keeps it
	VMapStore                                      // Key, Val; B: TTL in ms
	VMapLoadOrStore                                // Key, Val; B: TTL in ms
	VMapCompareAndSwap                             // Key, Val; A: revision; B: TTL in ms
	VMapDelete                                     // Key; A: revision, or 0
	VMapClear
	VMapLen
	VMapRange   // A: cursor; B: how many at most; pageSize may end it before
	VMapWatch   // Key; A: 1 is a prefix
	VMapUnwatch // A: the request of the Watch
	VMapDrop    // Key: it is not kept any more
)

// The verbs of a queue. Its parameter is its capacity; 0: none. What they are
// answered is said by package queues.
const (
	VPut   Verb = Verb(KQueue)<<4 + iota // Val; B: 1 does not wait
	VTake                                // A: how many at most; B: 1 does not wait; pageSize may end it before
	VDrain                               // A: how many at most; 0: all; pageSize may end it before
	VPeek
	VQueueLen
	VTransfer // A: the handle of the queue it goes to; B: 1 does not wait
)

// The verbs of a topic.
const (
	VPublish Verb = Verb(KTopic)<<4 + iota // Val: the message
	VSubscribe
	VUnsubscribe // A: the request of the Subscribe
)

// The verbs of an election.
const (
	VCampaign Verb = Verb(KElection)<<4 + iota // Key: the value; B: 1 does not wait
	VResign                                    // A: the request of the Campaign
	VLeader
	VObserve // until it is abandoned
)
