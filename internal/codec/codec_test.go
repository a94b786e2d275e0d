package codec_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/codec"
)

type order struct {
	ID    string   `json:"id"`
	Count int64    `json:"count"`
	Price float64  `json:"price"`
	Tags  []string `json:"tags"`
}

func newOrder() order {
	return order{"order-7f3a9c21-eu-west", 1234567890123, 1499.95, []string{"express", "fragile", "gift"}}
}

type (
	name   string
	blob   []byte
	level  int8
	big8   uint64
	ratio  float32
	quoted string // marshals itself to JSON
	shout  string // marshals itself to text
)

func (q quoted) MarshalJSON() ([]byte, error) { return json.Marshal("q:" + string(q)) }
func (q *quoted) UnmarshalJSON(b []byte) error {
	*q = quoted(strings.Trim(string(b), `"`)[2:])
	return nil
}
func (s *shout) MarshalText() ([]byte, error) { return []byte(strings.ToUpper(string(*s))), nil }
func (s *shout) UnmarshalText(b []byte) error { *s = shout(strings.ToLower(string(b))); return nil }

// point has a binary form only.
type point struct{ x, y byte }

func (p point) MarshalBinary() ([]byte, error) { return []byte{p.x, p.y}, nil }
func (p *point) UnmarshalBinary(b []byte) error {
	if len(b) != 2 {
		return errShort
	}
	p.x, p.y = b[0], b[1]
	return nil
}

// grown has a binary form that appends, and keeps what it is given, as it should not.
type grown struct{ b []byte }

func (g *grown) AppendBinary(dst []byte) ([]byte, error) { return append(dst, g.b...), nil }
func (g *grown) UnmarshalBinary(b []byte) error          { g.b = b; return nil }

type half struct{ A int }

func (half) MarshalBinary() ([]byte, error) { return []byte("lost"), nil }

type failing struct{}

func (failing) MarshalJSON() ([]byte, error) { return nil, errShort }

type tree struct {
	V    int
	Kids []*tree
}

var errShort = errors.New("short")

// check encodes v, compares the payload, and decodes it again, by both the typed and the dynamic functions.
func check[T any](t *testing.T, v T, payload string) {
	t.Helper()
	b, err := codec.Append([]byte("before"), v)
	if err != nil || string(b) != "before"+payload {
		t.Errorf("Append(%T %v) = %q, %v; want %q", v, v, b, err, payload)
		return
	}
	if b, err := codec.AppendAny(nil, v); err != nil || string(b) != payload {
		t.Errorf("AppendAny(%T %v) = %q, %v; want %q", v, v, b, err, payload)
	}
	if b, err := codec.Append[any](nil, v); err != nil || string(b) != payload {
		t.Errorf("Append[any](%T %v) = %q, %v; want %q", v, v, b, err, payload)
	}
	if b, err := codec.For[T]().Append(nil, v); err != nil || string(b) != payload {
		t.Errorf("Of.Append(%T %v) = %q, %v; want %q", v, v, b, err, payload)
	}
	decode(t, payload, v)
}

// decode decodes a payload to v by every function, and spoils the payload afterwards to see that nothing kept it.
func decode[T any](t *testing.T, payload string, v T) {
	t.Helper()
	data := []byte(payload)
	var a, b T
	var c any = new(T)
	errs := []error{codec.Decode(data, &a), codec.DecodeAny(data, &b), codec.Decode(data, &c)}
	for i := range data {
		data[i] ^= 0x55
	}
	for i, got := range []T{a, b, *c.(*T)} {
		if errs[i] != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("decode %q to %T = %+v, %v; want %+v", payload, v, got, errs[i], v)
		}
	}
}

func TestPayloads(t *testing.T) {
	check(t, struct{}{}, "")
	check(t, "", "r")
	check(t, "héllo\x00\xff", "rhéllo\x00\xff")
	check(t, name("n"), "rn")
	check(t, []byte(nil), "")
	check(t, []byte{}, "r")
	check(t, []byte{0, 1}, "r\x00\x01")
	check(t, blob("b"), "rb")
	check(t, true, "jtrue")
	check(t, false, "jfalse")
	check(t, 0, "j0")
	check(t, int64(math.MinInt64), "j-9223372036854775808")
	check(t, uint64(math.MaxUint64), "j18446744073709551615")
	check(t, int8(-128), "j-128")
	check(t, int16(-32768), "j-32768")
	check(t, int32(-5), "j-5")
	check(t, uint8(255), "j255")
	check(t, uint16(65535), "j65535")
	check(t, uint32(7), "j7")
	check(t, level(3), "j3")
	check(t, big8(9), "j9")
	check(t, 1.5, "j1.5")
	check(t, 1e21, "j1e+21")
	check(t, 1e-7, "j1e-7")
	check(t, math.Copysign(0, -1), "j-0")
	check(t, math.MaxFloat64, "j1.7976931348623157e+308")
	check(t, float32(0.1), "j0.1")
	check(t, ratio(1e-7), "j1e-7")
	check(t, time.Second, "j1000000000")
	check(t, quoted("x"), `j"q:x"`)
	check(t, shout("hey"), `j"HEY"`)
	check(t, point{1, 2}, "b\x01\x02")
	check(t, &point{1, 2}, "b\x01\x02")
	check(t, (*point)(nil), "")
	check(t, grown{[]byte("abc")}, "babc")
	check(t, half{1}, `j{"A":1}`)
	check(t, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), `j"2026-01-02T03:04:05.000000006Z"`)
	check(t, *big.NewInt(12), "j12")
	check(t, json.Number("1e3"), "j1e3")
	check(t, json.RawMessage(nil), "")
	check(t, json.RawMessage(`{"a": 1}`), `j{"a": 1}`)
	check(t, newOrder(), `j{"id":"order-7f3a9c21-eu-west","count":1234567890123,"price":1499.95,"tags":["express","fragile","gift"]}`)
	o := newOrder()
	check(t, &o, `j{"id":"order-7f3a9c21-eu-west","count":1234567890123,"price":1499.95,"tags":["express","fragile","gift"]}`)
	check(t, (*order)(nil), "")
	check(t, map[string]int(nil), "")
	check(t, map[string]int{"b": 1, "a": 2}, `j{"a":2,"b":1}`)
	check(t, []int(nil), "")
	check(t, []int{}, "j[]")
	check(t, [2]int{1, 2}, "j[1,2]")
	check(t, tree{1, []*tree{{2, nil}}}, `j{"V":1,"Kids":[{"V":2,"Kids":null}]}`)
	check(t, []any{"a", 1.0, nil}, `j["a",1,null]`)

	if b, err := codec.Append[any](nil, nil); len(b) != 0 || err != nil {
		t.Errorf("nil: %q, %v", b, err)
	}
	if b, err := codec.Append[fmt.Stringer](nil, time.Second); string(b) != "j1000000000" || err != nil {
		t.Errorf("Stringer: %q, %v", b, err)
	}
}

// What another kind of sender, an HTTP gateway above all, may send for a type.
func TestDecodeFromOthers(t *testing.T) {
	decode(t, `j"a\u00e9\n"`, "aé\n")
	decode(t, `j"x"`, name("x"))
	decode(t, `jnull`, "")
	decode(t, `j"aGk="`, []byte("hi"))
	decode(t, `j"aGk="`, blob("hi"))
	decode(t, `jnull`, []byte(nil))
	decode(t, `j"AQI="`, point{1, 2})
	decode(t, `jnull`, point{})
	decode(t, `j "AQI="`, &point{1, 2})
	decode(t, `j{}`, struct{}{})
	decode(t, `j 12 `, 12)
	decode(t, `jnull`, 0)
	decode(t, `j1E2`, 100.0)
	decode(t, `j true`, true)
	decode(t, "r\"<é", json.RawMessage(`"\"\u003cé"`))
	decode(t, "r\xff", json.RawMessage(`"/w=="`))
	decode(t, "b\x01\x02", json.RawMessage(`"AQI="`))
	decode(t, `j{"ID":"a","unknown":[{}],"id":"b"}`, order{ID: "b"})
	decode(t, "", newZero())
	for payload, want := range map[string]any{"": nil, "rtext": "text", "r\xff": []byte("\xff"), "b\x01": []byte("\x01"), "j[1]": []any{1.0}} {
		var got any = "old"
		if err := codec.Decode([]byte(payload), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("any from %q: %#v, %v", payload, got, err)
		}
	}
}

func newZero() order { return order{} }

// Nothing of an earlier value shows through, neither after a payload that lacks its fields nor after an error.
func TestDecodeStartsFromZero(t *testing.T) {
	for payload, ok := range map[string]bool{`j{"id":"x"}`: true, "": true, `j{"id":"x","count":"no"}`: false, "rx": false, "?": false} {
		v := newOrder()
		err := codec.Decode([]byte(payload), &v)
		if (err == nil) != ok || v.Count != 0 || v.Tags != nil || !ok && v.ID != "" {
			t.Errorf("%q: %+v, %v", payload, v, err)
		}
		v = newOrder()
		if err := codec.DecodeAny([]byte(payload), &v); (err == nil) != ok || v.Count != 0 || !ok && v.ID != "" {
			t.Errorf("DecodeAny %q: %+v, %v", payload, v, err)
		}
	}
}

// An error names the Go type and says what to do.
func TestErrors(t *testing.T) {
	app := func(_ []byte, err error) error { return err }
	dec := func(payload string, v any) error { return codec.DecodeAny([]byte(payload), v) }
	loop := &tree{}
	loop.Kids = []*tree{loop}
	_, toJSON := codec.ToJSON([]byte("zz"))
	_, notJSON := codec.ToJSON([]byte("j{"))
	for _, c := range []struct {
		err  error
		want string
	}{
		{app(codec.Append(nil, func() {})), "func(): json: unsupported type: func(): leave the field out"},
		{app(codec.Append(nil, struct{ C chan int }{})), "struct { C chan int }: json: unsupported type"},
		{app(codec.Append(nil, math.NaN())), "NaN of type float64: JSON has no such number; send it as a string"},
		{app(codec.Append(nil, []float64{math.Inf(1)})), "[]float64: json: unsupported value: inf: change the value"},
		{app(codec.Append(nil, loop)), "*codec_test.tree: json: unsupported value: encountered a cycle"},
		{app(codec.Append(nil, failing{})), "codec_test.failing"},
		{app(codec.Append(nil, json.RawMessage("{"))), "json.RawMessage that is not valid JSON: make it with json.Marshal"},
		{dec("jx", new(int)), "into int: invalid character"},
		{dec("j300", new(int8)), "into int8: json: cannot unmarshal number 300"},
		{dec("j-1", new(uint)), "into uint: json: cannot unmarshal number -1"},
		{dec("j01", new(int)), "into int: invalid"},
		{dec("j0x1p4", new(float64)), "into float64: invalid"},
		{dec("j1.", new(float64)), "into float64: "},
		{dec("j1e999", new(float64)), "into float64: json: cannot unmarshal number 1e999"},
		{dec(`j{"id":1}`, new(order)), "into codec_test.order: json: cannot unmarshal"},
		{dec("j", new(order)), "into codec_test.order: "},
		{dec("j ", new(point)), "binary form only; send that in base64 as a JSON string"},
		{dec("j[1,2]", new(point)), "binary form only; send that in base64 as a JSON string"},
		{dec("b\x01", new(point)), "codec_test.point: its UnmarshalBinary: short"},
		{dec("r\x01", new(point)), "raw data of 1 bytes into codec_test.point: send a codec_test.point, or"},
		{dec("rabc", new(order)), "raw data of 3 bytes into codec_test.order: decode into string or []byte"},
		{dec("rabc", new(fmt.Stringer)), "the interface fmt.Stringer: decode into any"},
		{dec("babc", new(string)), "binary data of 3 bytes into string: decode into the type that was sent"},
		{dec("j{", new(json.RawMessage)), "not valid JSON"},
		{dec("zz", new(order)), "codec_test.order: the payload's tag 'z' is none of"},
		{dec("zz", new(string)), "string: the payload's tag 'z' is none of"},
		{dec("zz", new(any)), "interface {}: the payload's tag 'z' is none of"},
		{dec("zz", new(json.RawMessage)), "tag 'z' is none of"},
		{dec("j1", order{}), "into codec_test.order: pass a non-nil pointer"},
		{dec("j1", nil), "into nil: pass a non-nil pointer"},
		{dec("j1", (*int)(nil)), "into *int: pass a non-nil pointer"},
		{toJSON, "tag 'z' is none of"},
		{notJSON, "not valid JSON"},
	} {
		if c.err == nil || !strings.HasPrefix(c.err.Error(), "codec: ") || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("got %v\nwant …%s…", c.err, c.want)
		}
	}
	if err := app(codec.Append(nil, failing{})); !errors.Is(err, errShort) {
		t.Errorf("%v does not wrap the error of MarshalJSON", err)
	}
	var mismatch *json.UnmarshalTypeError
	if err := dec(`j{"id":1}`, new(order)); !errors.As(err, &mismatch) {
		// The fast library has a type of the same name, an alias of encoding/json's.
		t.Errorf("%v is no *json.UnmarshalTypeError", err)
	}
	if b, err := codec.Append([]byte("keep"), []float64{math.NaN()}); err == nil || string(b) != "keep" {
		t.Errorf("dst after an error: %q, %v", b, err)
	}
}

// JSON nested deeper than a stack can bear is refused, also where a field is not known.
func TestDeepJSON(t *testing.T) {
	deep := strings.Repeat("[", 1_000_000)
	if err := codec.Decode([]byte("j"+deep), new(order)); err == nil {
		t.Error("no error")
	}
	if err := codec.Decode([]byte(`j{"unknown":`+deep), new(order)); err == nil {
		t.Error("no error")
	}
	if err := codec.Decode([]byte(`j{"unknown":`+strings.Repeat(`{"a":`, 1_000_000)), new(order)); err == nil {
		t.Error("no error")
	}
	long := order{Tags: make([]string, 20_000)} // long is not deep
	for i := range long.Tags {
		long.Tags[i] = "[{"
	}
	b, err := codec.Append(nil, long)
	if err != nil {
		t.Fatal(err)
	}
	decode(t, string(b), long)
}

// The fast library lets some long integers overflow without an error (seen with v0.5.4); they must not reach it, wherever in the payload they are.
func TestLongIntegers(t *testing.T) {
	for pad := range 45 {
		for _, digits := range []string{"20536601950806605866", "24201194669270834176", strings.Repeat("3", 40)} {
			in := `j{` + strings.Repeat(" ", pad) + `"count":` + digits + `}`
			if err := codec.Decode([]byte(in), new(order)); err == nil {
				t.Errorf("%q: no error", in)
			}
		}
	}
	decode(t, `j{"count":9223372036854775807,"id":"123456789012345678901234567890"}`, order{Count: math.MaxInt64, ID: "123456789012345678901234567890"})
}

func TestToJSON(t *testing.T) {
	for payload, want := range map[string]string{
		"": "null", "j{\"a\": 1}": "{\"a\": 1}", "r": `""`, "ré\"\n": `"é\"\n"`, "r\xff\xfe": `"//4="`, "b": `""`, "b\x01": `"AQ=="`,
	} {
		data := []byte(payload)
		got, err := codec.ToJSON(data)
		clear(data)
		if err != nil || string(got) != want || !json.Valid(got) {
			t.Errorf("ToJSON(%q) = %s, %v; want %s", payload, got, err, want)
		}
	}
}

func TestCopies(t *testing.T) {
	type inner struct {
		A [3]string
		B complex128
		T time.Time
	}
	for want, all := range map[bool][]bool{
		true: {codec.Copies[int](), codec.Copies[string](), codec.Copies[struct{}](), codec.Copies[inner](), codec.Copies[[2]inner](), codec.Copies[[0]*int](),
			codec.Copies[point](), codec.For[time.Duration]().Copies()},
		false: {codec.Copies[[]byte](), codec.Copies[*int](), codec.Copies[map[int]int](), codec.Copies[any](), codec.Copies[func()](), codec.Copies[chan int](),
			codec.Copies[order](), codec.Copies[struct{ A [1][]int }](), codec.For[json.RawMessage]().Copies()},
	} {
		for i, got := range all {
			if got != want {
				t.Errorf("case %d of %v: %v", i, want, got)
			}
		}
	}
}

// Types are met for the first time by several goroutines at once; run with -race.
func TestConcurrentFirstUse(t *testing.T) {
	type a struct{ X string }
	type b struct{ Y []a }
	type c struct{ Z map[string]b }
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { check(t, c{map[string]b{"k": {[]a{{"v"}}}}}, `j{"Z":{"k":{"Y":[{"X":"v"}]}}}`) })
	}
	wg.Wait()
}

// The costs that the package is built for.
func TestAllocations(t *testing.T) {
	buf := make([]byte, 0, 1024)
	s, bs, o := "some string", []byte("some bytes"), newOrder()
	of, payload, number, raw := codec.For[order](), []byte("rsome string"), []byte("j123456"), json.RawMessage(`{"a":1}`)
	var i int
	for what, c := range map[string]struct {
		most float64
		f    func()
	}{
		"append string":     {0, func() { _, _ = codec.Append(buf, s) }},
		"append name":       {0, func() { _, _ = codec.Append(buf, name(s)) }},
		"append bytes":      {0, func() { _, _ = codec.Append(buf, bs) }},
		"append int":        {0, func() { _, _ = codec.Append(buf, 123456) }},
		"append float":      {0, func() { _, _ = codec.Append(buf, 1234.56) }},
		"append bool":       {0, func() { _, _ = codec.Append(buf, true) }},
		"append raw JSON":   {0, func() { _, _ = codec.Append(buf, raw) }},
		"append struct{}":   {0, func() { _, _ = codec.Append(buf, struct{}{}) }},
		"append struct":     {1, func() { _, _ = of.Append(buf, o) }},
		"decode string":     {2, func() { var v string; _ = codec.Decode(payload, &v) }}, // its bytes, and v
		"decode into place": {1, func() { _ = codec.Decode(payload, &s) }},
		"decode int":        {0, func() { _ = codec.Decode(number, &i) }},
		"copies":            {0, func() { _ = codec.Copies[order]() }},
	} {
		if got := testing.AllocsPerRun(100, c.f); got > c.most {
			t.Errorf("%s: %v allocations, want %v", what, got, c.most)
		}
	}
}
