package engine

import (
	"sync"
	"time"
	_ "unsafe" // for go:linkname
)

// The election timers of nats-server are package variables without an option,
// 4 to 9 s. Hubs whose servers are embedded in our own processes can do better;
// a NATS of others keeps its own. Raft is safe with any timers: too short ones
// cost elections that were not needed, when a disk or a process stalls. A hub
// killed with the leader of its log: silent for 1.0 to 1.9 s, with the stock
// timers 5.6 s (TestProcess_Hub of internal/ledger, three servers on two cores).
//
//go:linkname minElectionTimeout github.com/nats-io/nats-server/v2/server.minElectionTimeout
var minElectionTimeout time.Duration

//go:linkname maxElectionTimeout github.com/nats-io/nats-server/v2/server.maxElectionTimeout
var maxElectionTimeout time.Duration

//go:linkname hbInterval github.com/nats-io/nats-server/v2/server.hbInterval
var hbInterval time.Duration

// What a follower waits for a heartbeat before it campaigns, and how often the
// leader of a group sends one.
const (
	quickElectionMin = 900 * time.Millisecond
	quickElectionMax = 1800 * time.Millisecond
	quickHeartbeat   = 200 * time.Millisecond
)

// quickElections is called before the first clustered server of the process
// starts: nothing reads the timers yet.
var quickElections = sync.OnceFunc(func() {
	minElectionTimeout, maxElectionTimeout, hbInterval = quickElectionMin, quickElectionMax, quickHeartbeat
})
