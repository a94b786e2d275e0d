package codec

import (
	"encoding/binary"
	"math"
	"math/bits"
	"reflect"
	"strconv"
	"strings"
	"unsafe"

	fast "github.com/segmentio/encoding/json"
)

// field is a field of a struct that has nothing but booleans, numbers and strings. Such structs are the usual inputs and results; they are written here, and
// read if they look as if written here. All that is unusual is left to the libraries: escapes, other orders, spaces, names not known, fields that are missing.
type field struct {
	key    string // with what is in front of it and the colon: `{"id":`, `,"name":`
	offset uintptr
	form   form // op and size
}

// fieldsOf returns nil for a type with other fields. t is a plain struct.
func fieldsOf(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		sf := t.Field(i)
		tag := sf.Tag.Get("json")
		if !sf.IsExported() || tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if name == "" {
			name = sf.Name
		}
		f := field{key: `,"` + name + `":`, offset: sf.Offset, form: form{size: uint8(sf.Type.Size())}}
		if len(fs) == 0 {
			f.key = "{" + f.key[1:]
		}
		switch k := sf.Type.Kind(); {
		case options != "":
			return nil
		case k == reflect.String:
			f.form.op = opString
		case k == reflect.Bool:
			f.form.op = opBool
		case k >= reflect.Int && k <= reflect.Int64:
			f.form.op = opInt
		case k >= reflect.Uint && k <= reflect.Uint64:
			f.form.op = opUint
		case k == reflect.Float32 || k == reflect.Float64:
			f.form.op = opFloat
		default:
			return nil
		}
		fs = append(fs, f)
	}
	return fs
}

// appendFields appends the JSON of the struct at p; false means that a number in it has none.
func appendFields(dst []byte, fs []field, p unsafe.Pointer) ([]byte, bool) {
	for i := range fs {
		f := &fs[i]
		dst = append(dst, f.key...)
		at := unsafe.Add(p, f.offset)
		switch f.form.op {
		case opString:
			s := *(*string)(at)
			if ordinary(unsafe.Slice(unsafe.StringData(s), len(s)), true) < len(s) {
				dst = fast.AppendEscape(dst, s, fast.EscapeHTML)
				continue
			}
			dst = append(dst, '"')
			dst = append(dst, s...)
			dst = append(dst, '"')
		case opBool:
			dst = strconv.AppendBool(dst, *(*bool)(at))
		case opInt:
			dst = strconv.AppendInt(dst, f.form.int(at), 10)
		case opUint:
			dst = strconv.AppendUint(dst, f.form.uint(at), 10)
		default:
			v, size := f.form.float(at)
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return dst, false
			}
			dst = appendFloat(dst, v, size)
		}
	}
	return append(dst, '}'), true
}

// decodeFields decodes JSON into the struct at p. After false there may be anything in its fields.
func decodeFields(b []byte, fs []field, p unsafe.Pointer) bool {
	for i := range fs {
		f := &fs[i]
		if len(b) < len(f.key) || string(b[:len(f.key)]) != f.key {
			return false
		}
		b = b[len(f.key):]
		at := unsafe.Add(p, f.offset)
		if f.form.op == opString {
			if len(b) == 0 || b[0] != '"' {
				return false
			}
			n := ordinary(b[1:], false) + 1
			if n >= len(b) || b[n] != '"' {
				return false
			}
			*(*string)(at) = string(b[1:n])
			b = b[n+1:]
			continue
		}
		n := 0
		for n < len(b) && b[n] != ',' && b[n] != '}' {
			n++
		}
		if !f.form.setScalar(at, b[:n]) {
			return false
		}
		b = b[n:]
	}
	return len(b) == 1 && b[0] == '}'
}

// setScalar stores a boolean or a number that is written as usual.
func (f *form) setScalar(p unsafe.Pointer, b []byte) bool {
	switch f.op {
	case opBool:
		*(*bool)(p) = string(b) == "true"
		return string(b) == "true" || string(b) == "false"
	case opInt:
		v, ok := parseInt(b)
		return ok && f.setInt(p, v)
	case opUint:
		v, ok := parseInt(b)
		return ok && b[0] != '-' && f.setUint(p, uint64(v))
	default:
		return f.setFloat(p, b)
	}
}

// Eight bytes at a time.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// ordinary is the length of b up to the first byte that JSON may write in another way within a string: a control character, a quote, a backslash, all outside of
// ASCII, and with html also < > and &.
func ordinary(b []byte, html bool) int {
	n := 0
	for ; n+8 <= len(b); n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		// In each of these the highest bit of the lowest byte that is meant is set, and none below it.
		m := x | (x-ones*0x20)&^x | zeros(x^ones*'"') | zeros(x^ones*'\\')
		if html {
			m |= zeros(x^ones*'<') | zeros(x^ones*'>') | zeros(x^ones*'&')
		}
		if m &= highs; m != 0 {
			return n + bits.TrailingZeros64(m)/8
		}
	}
	for ; n < len(b); n++ {
		if c := b[n]; c < 0x20 || c >= 0x80 || c == '"' || c == '\\' || html && (c == '<' || c == '>' || c == '&') {
			return n
		}
	}
	return n
}

func zeros(x uint64) uint64 { return (x - ones) &^ x }
