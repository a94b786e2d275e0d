package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/internal/codec"
)

var (
	seed   = flag.Uint64("seed", 0, "of TestLikeEncodingJSON; 0 takes a new one")
	rounds = flag.Int("rounds", 12_000, "of TestLikeEncodingJSON, over all types")
)

// Types of every shape, whichever library they go to.
type (
	inner struct {
		A int            `json:"a,omitempty"`
		B string         `json:"b,omitempty"`
		C *float32       `json:"c,omitempty"`
		D map[string]int `json:"d,omitempty"`
		E []byte         `json:"e,omitempty"`
		F bool           `json:",omitempty"`
		G map[string]*[]string
	}
	wide struct {
		S     string
		I8    int8
		I16   int16
		I32   int32
		I     int
		U8    uint8
		U16   uint16
		U32   uint32
		U64   uint64
		F32   float32
		F64   float64
		B     bool
		Bytes []byte
		In    inner
		Ptr   *inner
		Ptrs  []*inner
		Ins   map[string]inner
		PP    **int
		Kind  name
		Kinds []name
		Lev   level
		Skip  int `json:"-"`
		Dash  int `json:"-,"` //nolint:staticcheck // a field named "-", as encoding/json reads it
		CaSe  string
		SS    [][]string
		Empty struct{}
		Durs  map[string]time.Duration
		under int //nolint:unused // not exported: no codec may see it
	}
	simple struct { // is written and read by fields.go
		S     string `json:"s"`
		I8    int8
		I     int64
		U8    uint8
		U64   uint64
		F32   float32
		F64   float64
		B     bool
		Kind  name
		Skip  int `json:"-"`
		Long  string
		under int //nolint:unused // not exported: no codec may see it
	}
	embedded struct {
		inner
		*Outer
		X string
	}
	Outer   struct{ P, X string }
	special struct {
		Q   quoted
		PS  *shout
		Map map[shout]int
		Num json.Number `json:",omitempty"`
		Raw json.RawMessage
		T   time.Time `json:",omitzero"`
		Z   inner     `json:"z,omitzero"`
		Arr [3]int16
		Any any
		MI  map[int]string
		S   string   `json:",string"`
		N   *int     `json:"n,string"`
		F   *float64 `json:"<f>"`
		É   int
		AA  int `json:"aa"`
		Aa  int `json:"AA"`
	}
)

var diffTypes = []reflect.Type{
	reflect.TypeFor[order](), reflect.TypeFor[wide](), reflect.TypeFor[inner](), reflect.TypeFor[embedded](), reflect.TypeFor[special](),
	reflect.TypeFor[[]wide](), reflect.TypeFor[map[string]order](), reflect.TypeFor[*order](), reflect.TypeFor[tree](), reflect.TypeFor[[]string](),
	reflect.TypeFor[map[string][]byte](), reflect.TypeFor[map[string]any](), reflect.TypeFor[[]*float64](), reflect.TypeFor[int8](), reflect.TypeFor[int64](),
	reflect.TypeFor[uint16](), reflect.TypeFor[uint64](), reflect.TypeFor[float32](), reflect.TypeFor[float64](), reflect.TypeFor[bool](),
	reflect.TypeFor[simple](), reflect.TypeFor[simple](), reflect.TypeFor[simple](), reflect.TypeFor[[][]byte](), reflect.TypeFor[***string](), reflect.TypeFor[struct{ F func() }](), reflect.TypeFor[map[string]map[string]inner](),
}

// TestLikeEncodingJSON holds the promise that JSON is what encoding/json accepts and means: random values of random shapes are encoded by both, and the JSON,
// whole and damaged, decoded by both.
func TestLikeEncodingJSON(t *testing.T) {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	r := rand.New(rand.NewPCG(s, 0))
	for i := range *rounds {
		typ := diffTypes[i%len(diffTypes)]
		v := reflect.New(typ)
		fill(r, v.Elem(), 3)
		want, wantErr := json.Marshal(v.Interface())
		got, err := codec.AppendAny(nil, v.Elem().Interface())
		switch {
		case (err == nil) != (wantErr == nil):
			t.Fatalf("seed %d: %s: %+v\nours %v\ntheirs %v", s, typ, v.Elem(), err, wantErr)
		case err == nil && len(got) == 0: // nil
			want = []byte("null")
		case err == nil && string(got) != "j"+string(want):
			t.Fatalf("seed %d: %s\nours   %s\ntheirs  %s", s, typ, got, want)
		case err != nil:
			want = []byte(`{}`)
		}
		for k := range 6 {
			in := want
			for range k / 2 {
				in = damage(r, in)
			}
			compare(t, typ, in, s)
		}
	}
}

// compare decodes JSON by encoding/json and by codec.
func compare(t *testing.T, typ reflect.Type, in []byte, s uint64) {
	t.Helper()
	theirs, ours := reflect.New(typ), reflect.New(typ)
	wantErr := json.Unmarshal(in, theirs.Interface())
	data := append([]byte{'j'}, in...)
	err := codec.DecodeAny(data, ours.Interface())
	clear(data)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("seed %d: %s from %q\nours   %v\ntheirs %v", s, typ, in, err, wantErr)
	}
	if err == nil && !reflect.DeepEqual(ours.Interface(), theirs.Interface()) {
		a, _ := json.Marshal(ours.Interface())
		b, _ := json.Marshal(theirs.Interface())
		t.Fatalf("seed %d: %s from %q\nours   %s\ntheirs %s", s, typ, in, a, b)
	}
}

var pieces = []string{"a", "Z", "é", "日本", "😀", `"`, `\`, "/", "\n", "\t", "\x00", "\x1f", "\x7f", "<", ">", "&", "\u2028", "\u2029", "\xff", "\xc3", "\xed\xa0\x80",
	"hello", " ", "\b\f\r", "\ufffd", "a longer piece of text, longer than any word of a machine"}

func randString(r *rand.Rand) string {
	var s strings.Builder
	for range r.IntN(6) {
		s.WriteString(pieces[r.IntN(len(pieces))])
	}
	return s.String()
}

func randFloat(r *rand.Rand) float64 {
	switch r.IntN(8) {
	case 0:
		return []float64{0, math.Copysign(0, -1), 1e21, 1e20, 1e-6, 1e-7, 9.99e20, math.MaxFloat64, math.SmallestNonzeroFloat64}[r.IntN(9)]
	case 1, 2:
		return math.Float64frombits(r.Uint64()&^(0x7ff<<52) | uint64(r.IntN(2046))<<52)
	case 3, 4:
		return float64(r.IntN(1000)) / 100
	case 5:
		if r.IntN(20) == 0 {
			return []float64{math.NaN(), math.Inf(1), math.Inf(-1)}[r.IntN(3)]
		}
	}
	return r.NormFloat64()
}

func randAny(r *rand.Rand) any {
	switch r.IntN(6) {
	case 0:
		return randString(r)
	case 1:
		return float64(r.IntN(100))
	case 2:
		return map[string]any{randString(r): randString(r), "k": nil}
	case 3:
		return []any{true, 1.5, randString(r)}
	case 4:
		o := newOrder()
		return &o
	}
	return nil
}

// fill sets v to a random value. depth bounds what it points to.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	switch p := v.Addr().Interface().(type) {
	case *json.RawMessage:
		*p = json.RawMessage([]string{"null", `{"a" : [1, 2 ,"<"]}`, `"x"`, `{"bad`}[min(3, r.IntN(60)%4*r.IntN(2))])
		return
	case *json.Number:
		*p = json.Number([]string{"", "0", "-1.5e300", "123456789012345678901234567890", "01"}[r.IntN(30)%5])
		return
	case *time.Time:
		if r.IntN(2) == 0 {
			*p = time.Unix(r.Int64N(1<<33), r.Int64N(1e9)).UTC()
		}
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> r.IntN(64))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> r.IntN(64))
	case reflect.Float32:
		v.SetFloat(float64(float32(r.NormFloat64() * math.Pow10(r.IntN(50)-25))))
	case reflect.Float64:
		v.SetFloat(randFloat(r))
	case reflect.String:
		v.SetString(randString(r))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(r, v.Field(i), depth-1)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i), depth)
		}
	case reflect.Pointer:
		if depth > 0 && r.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), depth-1)
		}
	case reflect.Slice:
		if depth > 0 && r.IntN(4) > 0 {
			v.Set(reflect.MakeSlice(v.Type(), r.IntN(4), 4))
			for i := range v.Len() {
				fill(r, v.Index(i), depth-1)
			}
		}
	case reflect.Map:
		if depth > 0 && r.IntN(4) > 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range r.IntN(4) {
				k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(r, k, depth-1)
				fill(r, e, depth-1)
				v.SetMapIndex(k, e)
			}
		}
	case reflect.Interface:
		if a := randAny(r); a != nil {
			v.Set(reflect.ValueOf(a))
		}
	}
}

var tokens = []string{"null", "1e400", "1.5", "-", "-0", `"\ud800"`, `"\ud83d\ude00"`, `"\u00`, "{}", "[]", "[1,2,3,4,5]", "[null]", "true", `"x"`, "18446744073709551616",
	"9223372036854775808", "-1", "01", "1.", ".5", "+1", "1e5", "1E+2", `{"a":1,"A":2,"a":3}`, `{"unknown":{"x":[1,{"y":"\u0041"}]}}`, "\x00", "\"\x01\"", "\"\xff\"", ",", "}",
	"]", "tru", "nul", `"\/"`, `"\x"`, " \t\r\n", "\v", "\u00a0", `"12"`, "12a", `"aGk="`, `"aG"`, `"YQ==\n"`, `"YQ"`, "0x10", "1_0", "Infinity", "//", `\`, `"\\"`}

var members = []string{`"a":null`, `"zzz":[{"k":"\ud800"}]`, `"Tags":[]`, `"ID":5`, `"id":"q"`, `"TAGS":["k"]`, `"count":1.0`, `"count":1e2`, `"Bytes":"aGk"`, `"Bytes":[1,2]`,
	`"PTR":{"zz":1,"A":5}`, `"Ptr":null`, `"Ptrs":[{"a":1},null]`, `"in":{"a":7}`, `"In":{"d":{"x":1}}`, `"\u0053":"esc"`, `"ſ":"long s"`, `"ſS":[["x"]]`, `"\u212aind":"kelvin"`,
	`"Kind":"k"`, `"kinds":["a"]`, `"KINDS":["a","b"]`, `"I8":300`, `"U64":-1`, `"u8":1e1`, `"case":"k"`, `"":1`, `"Ins":{"a":{"a":1},"a":{"b":"2"}}`, `"PP":7`, `"-":3`,
	`"Empty":{"q":1}`, `"Empty":1`, `"F64":"1"`, `"B":"true"`, `"G":{"k":["v"],"k":null}`, `"under":1`, `"Skip":1`, `"SS":[["a"],null,[]]`, `"p":"z"`, `"Arr":[1]`, `"aA":1`, `"é":2`}

// damage returns b with something in it changed, left out or added.
func damage(r *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	i := r.IntN(len(b) + 1)
	switch r.IntN(7) {
	case 0:
		return b[:i]
	case 1:
		if i < len(b) {
			b[i] = byte(r.IntN(256))
		}
	case 2:
		return splice(b, i, i, tokens[r.IntN(len(tokens))])
	case 3: // a value
		from := bytes.LastIndexAny(b[:i], ":[,") + 1
		to := bytes.IndexAny(b[i:], ",:]}")
		if to < 0 {
			to = len(b) - i
		}
		return splice(b, from, i+to, tokens[r.IntN(len(tokens))])
	case 4: // more digits in a number
		if i < len(b) && b[i] >= '0' && b[i] <= '9' {
			return splice(b, i, i, strconv.FormatUint(r.Uint64()>>r.IntN(64), 10))
		}
	default: // a member, in front or behind: a name twice, in other letters, unknown
		m := members[r.IntN(len(members))]
		if from := bytes.IndexByte(b, '{'); from >= 0 && r.IntN(2) == 0 {
			return splice(b, from+1, from+1, m+",")
		} else if to := bytes.LastIndexByte(b, '}'); to > 0 {
			return splice(b, to, to, ","+m)
		}
	}
	return b
}

func splice(b []byte, from, to int, s string) []byte {
	return append(append(bytes.Clone(b[:from]), s...), b[to:]...)
}

// FuzzDecode looks for panics, and for a difference to encoding/json, in a few types at once.
func FuzzDecode(f *testing.F) {
	for _, t := range tokens {
		f.Add([]byte("j" + t))
	}
	f.Add([]byte(`j{"s":"a longer text","I8":-1,"I":123,"U8":255,"U64":1,"F32":1.5,"F64":1e-7,"B":true,"Kind":"k","Long":"x"}`))
	for _, m := range members {
		f.Add([]byte("j{" + m + "}"))
	}
	for _, s := range []string{"", "j", "r", "b", "z", "rtext", "b\x01\x02", "j\"AQI=\"", `j{"id":"a","count":1,"price":2.5,"tags":["x"]}`, "j" + strings.Repeat("[", 20_000)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range []any{new(order), new(wide), new(special), new(string), new([]byte), new(int8), new(uint64), new(float64), new(bool), new(point), new(any),
			new(json.RawMessage), new(struct{}), new(*grown)} {
			if err := codec.DecodeAny(data, v); err != nil && !strings.HasPrefix(err.Error(), "codec: ") {
				t.Errorf("%T: %v", v, err)
			}
		}
		if b, err := codec.ToJSON(data); err == nil && !json.Valid(b) {
			t.Errorf("ToJSON(%q) = %q", data, b)
		}
		if len(data) > 1 && data[0] == codec.TagJSON {
			for _, typ := range []reflect.Type{reflect.TypeFor[order](), reflect.TypeFor[simple](), reflect.TypeFor[wide](), reflect.TypeFor[int64](), reflect.TypeFor[float32](), reflect.TypeFor[string]()} {
				compare(t, typ, data[1:], 0)
			}
		}
	})
}

// FuzzRoundTrip holds that what is encoded is decoded to the same.
func FuzzRoundTrip(f *testing.F) {
	f.Add("text", []byte("bytes"), int64(-5), 1.5)
	f.Add("\xff\"<", []byte(nil), int64(math.MinInt64), 1e-9)
	f.Fuzz(func(t *testing.T, s string, b []byte, i int64, x float64) {
		if err := errors.Join(roundTrip(s), roundTrip(b), roundTrip(i), roundTrip(blob(b)), roundTrip(float32(i))); err != nil {
			t.Error(err)
		}
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			if err := errors.Join(roundTrip(x), roundTrip(order{strings.ToValidUTF8(s, "?"), i, x, []string{"t"}})); err != nil {
				t.Error(err)
			}
		}
	})
}

func roundTrip[T any](v T) error {
	data, err := codec.Append(nil, v)
	if err != nil {
		return err
	}
	var got T
	if err := codec.Decode(data, &got); err != nil {
		return err
	}
	if !reflect.DeepEqual(got, v) && len(data) > 0 {
		return fmt.Errorf("%T %v came back as %v", v, v, got)
	}
	return nil
}
