package distgear

import (
	"os"
	"sync"
	"time"

	"github.com/distgear/distgear/cluster"
	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/process"
)

// meter measures the host and the process, at most once in period.
type meter struct {
	mu   sync.Mutex
	at   time.Time
	proc *process.Process // nil until it was looked for, and where the system cannot tell
	last cluster.Load
}

const meterPeriod = time.Second

func (m *meter) read() cluster.Load {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.at) >= meterPeriod {
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
