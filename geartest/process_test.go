//go:build unix

package geartest

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestProcessLines(t *testing.T) {
	p := Start(t, Child{Role: "echo", Args: []string{"7"}})
	if want := fmt.Sprintf("%d 7", p.Pid()); p.Ready() != want {
		t.Errorf("Ready() = %q, want %q", p.Ready(), want)
	}
	p.Say("one")
	p.Say("two")
	for _, want := range []string{"one", "two"} {
		if got := p.Line("heard"); got != want {
			t.Errorf("Line = %q, want %q", got, want)
		}
	}
	p.Say("end")
	if got := p.Line("last"); got != "words" {
		t.Errorf("the last line, without a newline, is %q", got)
	}
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("Wait = %v, want exit code 7", err)
	}
	for _, want := range []string{"noise before", "! a line on standard error", "heard two"} {
		if !strings.Contains(p.Output(), want) {
			t.Errorf("the output lacks %q:\n%s", want, p.Output())
		}
	}
	p.Kill() // of what has ended is nothing
}

func TestProcessStop(t *testing.T) {
	p := Start(t, Child{Role: "count"})
	p.Line("n 3")
	if err := p.Stop(); err != nil {
		t.Errorf("Stop = %v", err)
	}
	p.Line("stopping")
}

func TestProcessKill(t *testing.T) {
	for _, paused := range []bool{false, true} {
		p := Start(t, Child{Role: "count"})
		if paused {
			p.Pause()
		}
		p.Kill()
		var exit *exec.ExitError
		if err := p.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("paused %v: Wait = %v, want killed", paused, err)
		}
		if strings.Contains(p.Output(), "stopping") {
			t.Errorf("paused %v: a killed process was told", paused)
		}
	}
}

func TestProcessPause(t *testing.T) {
	p := Start(t, Child{Role: "count"})
	for range 3 {
		p.Line("n ")
		p.Pause()
		if is, err := stopped(p.Pid()); !is || err != nil {
			t.Errorf("after Pause stopped() = %v, %v", is, err)
		}
		// All that it printed is in the pipe, which we read dry; then nothing may come.
		last := p.Output()
		Eventually(t, 0, "the output of a paused process has come to rest", func() bool {
			before := last
			last = p.Output()
			return last == before
		})
		p.Resume()
		Eventually(t, 0, "a resumed process goes on", func() bool { return p.Output() != last })
	}
	if is, err := stopped(p.Pid()); is || err != nil {
		t.Errorf("after Resume stopped() = %v, %v", is, err)
	}
}

// TestProcessOfAProcess: what a child left behind goes with it.
func TestProcessOfAProcess(t *testing.T) {
	var grandchild int
	t.Run("test", func(t *testing.T) {
		p := Start(t, Child{Role: "parent"})
		var err error
		if grandchild, err = strconv.Atoi(p.Ready()); err != nil {
			t.Fatal(err)
		}
		p.Kill()
	})
	Eventually(t, 0, "the child of the child is gone", func() bool {
		out, err := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(grandchild)).Output()
		return err != nil || strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
	})
}

func TestProcessOfItsOwnProgram(t *testing.T) {
	p := Start(t, Child{Path: "/bin/sh", Args: []string{"-c", "echo $GREETING; pwd; cat"}, Env: []string{"GREETING=serving on 7"}, Dir: "/", Ready: "serving on"})
	if p.Ready() != "7" || p.Line("/") != "" {
		t.Errorf("ready %q, output %q", p.Ready(), p.Output())
	}
}

func TestProcessFailures(t *testing.T) {
	for _, c := range []struct {
		name  string
		child Child
		want  string
	}{
		{"unknown role", Child{Role: "nobody"}, "no such role"},
		{"role fails", Child{Role: "fails"}, "as it was told"},
		{"never ready", Child{Role: "silent", Wait: 20 * time.Millisecond}, "was not ready after 20ms"},
		{"no program", Child{Path: "/does/not/exist"}, "no such file"},
		{"no directory", Child{Role: "silent", Dir: "/does/not/exist"}, "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := failing(t, func(t testing.TB) { Start(t, c.child) }); !strings.Contains(got, c.want) {
				t.Errorf("the test says %q, which lacks %q", got, c.want)
			}
		})
	}
	t.Run("in a child whose TestMain forgot", func(t *testing.T) {
		t.Setenv(roleEnv, "echo")
		if got := failing(t, func(t testing.TB) { Start(t, Child{Role: "echo"}) }); !strings.Contains(got, "TestMain must call geartest.Main") {
			t.Errorf("the test says %q", got)
		}
	})
	t.Run("a line that never comes", func(t *testing.T) {
		got := failing(t, func(t testing.TB) {
			p := Start(t, Child{Role: "echo", Args: []string{"0"}})
			p.Say("end")
			p.Line("never")
		})
		for _, want := range []string{`printed no line that begins with "never"`, "exit status 0", "last words", "! a line on standard error"} {
			if !strings.Contains(got, want) {
				t.Errorf("the test says %q, which lacks %q", got, want)
			}
		}
	})
}

// TestEventually measures in a bubble, where waiting costs no time.
func TestEventually(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		Eventually(t, time.Minute, "10 s are over", func() bool { return time.Since(began) >= 10*time.Second })
		if d := time.Since(began); d > 10*time.Second+50*time.Millisecond {
			t.Errorf("seen after %v", d)
		}
		got := failing(t, func(t testing.TB) { Eventually(t, time.Minute, "pigs fly", func() bool { return false }) })
		if got != "after 1m0s still not: pigs fly\n" {
			t.Errorf("the test says %q", got)
		}
	})
}
