package wire

import (
	"slices"
	"testing"
)

func TestRef(t *testing.T) {
	for _, id := range []string{"a", "", "a/b", `"`, "\x00\xff", "ä", "a\"/\"b"} {
		name := TaskObject("ex/"+id, id, "in-7")
		r, ok := ParseRef(string(AppendRef(nil, Ref{name, 1 << 40})))
		if !ok || r != (Ref{name, 1 << 40}) {
			t.Errorf("%q: %v", id, r)
		}
		if ex, got, ok := ParseTaskObject(name); !ok || ex != "ex/"+id || got != id {
			t.Errorf("%q is %q of %q", id, got, ex)
		}
	}
	for _, p := range []string{"", "j1", "rR", "R", "R\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		if r, ok := ParseRef(p); ok {
			t.Errorf("%q is %v", p, r)
		}
	}
	for _, n := range []string{"", "task/", `task/"a"`, `task/"a"/"b"`, `task/"a"/"b"/c/d`, `task/'a'/1/2`, `fast/"a"/"b"/c`} {
		if ex, id, ok := ParseTaskObject(n); ok {
			t.Errorf("%q is %q of %q", n, id, ex)
		}
	}
}

func TestError(t *testing.T) {
	e := &Error{Message: "no", Stack: "s", Chain: []string{"a", "b"}, Flags: Permanent, AfterMS: 70_000}
	b := AppendError(nil, e)
	got, err := ParseError(b)
	if err != nil || got.Message != e.Message || got.Stack != e.Stack || !slices.Equal(got.Chain, e.Chain) || got.Flags != e.Flags || got.AfterMS != e.AfterMS {
		t.Fatal(got, err)
	}
	for n := range b {
		if _, err := ParseError(b[:n]); err == nil {
			t.Errorf("%d bytes of %d are an error", n, len(b))
		}
	}
	if _, err := ParseError(append(b, 0)); err == nil {
		t.Error("more bytes than an error has")
	}
}
