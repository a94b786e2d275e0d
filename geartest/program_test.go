package geartest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/distgear/distgear"
)

// shares joins and prints its share of the numbers below 6: "shares I OF", with a fault "shares I OF FAULT", and to help until it is stopped "shares I OF helps".
func shares(ctx context.Context, args []string) error {
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		return err
	}
	i, of := 0, 0
	if _, err := fmt.Sscan(args[0]+" "+args[1], &i, &of); err != nil {
		return err
	}
	fmt.Println("joined as", n.Name())
	fmt.Fprintln(os.Stderr, "this does not count")
	if len(args) > 2 && args[2] == "helps" {
		<-ctx.Done()
		return n.Leave(context.WithoutCancel(ctx))
	}
	for k := i * 6 / of; k < (i+1)*6/of; k++ {
		fmt.Println("number", k)
	}
	if len(args) > 2 && i == 1 {
		switch args[2] {
		case "prints":
			fmt.Println("number 7")
		case "fails":
			return errors.Join(errors.New("as it was told"), n.Leave(ctx))
		}
	}
	fmt.Print("end")
	return n.Leave(ctx)
}

func TestSame(t *testing.T) {
	p := Program{
		Role: "shares",
		Args: func(i, of int) []string { return []string{strconv.Itoa(i), strconv.Itoa(of)} },
		Keep: func(line string) bool { return strings.HasPrefix(line, "number ") },
	}
	want := "number 0\nnumber 1\nnumber 2\nnumber 3\nnumber 4\nnumber 5\n"
	if got := Same(t, p); got != want {
		t.Errorf("it printed %q", got)
	}
	p.AnyOrder, p.Processes = true, 2
	p.Args = func(i, of int) []string { return []string{strconv.Itoa(of - 1 - i), strconv.Itoa(of)} }
	if got := Same(t, p); got != want {
		t.Errorf("in any order it printed %q", got)
	}
	p.Leads, p.Processes = 1, 3
	p.Args = func(i, _ int) []string { return [][]string{{"0", "1"}, {"0", "1", "helps"}, {"0", "1", "helps"}}[i] }
	if got := Same(t, p); got != want {
		t.Errorf("with processes that help it printed %q", got)
	}
	p.Leads, p.Processes = 0, 2
	for fault, says := range map[string]string{"prints": `line 7 is "number 7\n", not ""`, "fails": "process 2 of 2: exit status 1"} {
		p.Args = func(i, of int) []string { return []string{strconv.Itoa(i), strconv.Itoa(of), fault} }
		if said := failing(t, func(t testing.TB) { Same(t, p) }); !strings.Contains(said, says) {
			t.Errorf("a program that %s: it says %q", fault, said)
		}
	}
	p = Program{Role: "shares", Processes: 2, Args: func(int, int) []string { return []string{"0", "1"} }} // all of it counts
	if said := failing(t, func(t testing.TB) { Same(t, p) }); !strings.Contains(said, `as 2 processes it printed something else than as one: line 1 is "joined as p0\n"`) {
		t.Errorf("a program that prints its name: it says %q", said)
	}
}
