package proc

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
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

// Resident is the resident memory of a process in bytes; pid is a number or "self".
func Resident(pid string) (float64, error) {
	b, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0, fmt.Errorf("statm: %q", b)
	}
	pages, err := strconv.ParseFloat(f[1], 64)
	return pages * float64(os.Getpagesize()), err
}
