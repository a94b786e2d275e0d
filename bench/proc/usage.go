package proc

import (
	"runtime"
	"syscall"
)

// usage answers what this process has used so far: processor time in seconds, and how often it allocated.
func usage(string) (Reply, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Reply{Values: map[string]float64{"cpu": float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, "allocs": float64(m.Mallocs)}}, err
}
