// Package meter measures the load of this process and its host.
//
//	var m meter.Meter
//	l := m.Read()
//
// # Guarantees
//
// Reading is cheap: it measures at most once a second.
//
// # Failures
//
// What the system does not tell stays zero.
package meter

import (
	"os"
	"sync"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/process"
)

// Meter measures the host and the process. Its zero value works; it is safe for
// concurrent use.
type Meter struct {
	mu   sync.Mutex
	at   time.Time
	proc *process.Process // nil until it was looked for, and where the system cannot tell
	last cluster.Load
}

// period is how old what Read tells may be.
const period = time.Second

// Read is the load now, without what is in flight.
func (m *Meter) Read() cluster.Load {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.at) >= period {
		if m.at.IsZero() {
			m.proc, _ = process.NewProcess(int32(os.Getpid()))
		}
		m.at = now
		if p, err := cpu.Percent(0, false); err == nil && len(p) == 1 { // since the last reading
			m.last.CPU = p[0] / 100
		}
		if v, err := mem.VirtualMemory(); err == nil {
			m.last.MemoryTotal = v.Total
		}
		if m.proc != nil {
			if i, err := m.proc.MemoryInfo(); err == nil {
				m.last.Memory = i.RSS
			}
		}
	}
	return m.last
}
