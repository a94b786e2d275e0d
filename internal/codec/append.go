package codec

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"unsafe"

	fast "github.com/segmentio/encoding/json"
)

// appendFlat appends the payload of the value at p, of a type that is flat. Its memory is read by its kind, which is what f.op and f.size say: that saves the
// named types (type ID string) a conversion through reflect, and all of them the allocation of an interface. Nothing here may keep p.
func (f *form) appendFlat(dst []byte, p unsafe.Pointer) ([]byte, error) {
	switch f.op {
	case opEmpty:
		return dst, nil
	case opString:
		dst = append(dst, TagRaw)
		return append(dst, *(*string)(p)...), nil
	case opBytes:
		b := *(*[]byte)(p)
		if b == nil {
			return dst, nil
		}
		dst = append(dst, TagRaw)
		return append(dst, b...), nil
	case opBool:
		return strconv.AppendBool(append(dst, TagJSON), *(*bool)(p)), nil
	case opInt:
		return strconv.AppendInt(append(dst, TagJSON), f.int(p), 10), nil
	case opUint:
		return strconv.AppendUint(append(dst, TagJSON), f.uint(p), 10), nil
	case opFloat:
		v, bits := f.float(p)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return dst, fmt.Errorf("codec: cannot encode %v of type %s: JSON has no such number; send it as a string", v, f.typ)
		}
		return appendFloat(append(dst, TagJSON), v, bits), nil
	default: // opRawJSON
		b := *(*json.RawMessage)(p)
		if len(b) == 0 {
			return dst, nil
		}
		if !json.Valid(b) {
			return dst, fmt.Errorf("codec: cannot encode a json.RawMessage that is not valid JSON: make it with json.Marshal, or use []byte for other data")
		}
		dst = append(dst, TagJSON)
		return append(dst, b...), nil
	}
}

func (f *form) int(p unsafe.Pointer) int64 {
	switch f.size {
	case 1:
		return int64(*(*int8)(p))
	case 2:
		return int64(*(*int16)(p))
	case 4:
		return int64(*(*int32)(p))
	default:
		return *(*int64)(p)
	}
}

func (f *form) uint(p unsafe.Pointer) uint64 {
	switch f.size {
	case 1:
		return uint64(*(*uint8)(p))
	case 2:
		return uint64(*(*uint16)(p))
	case 4:
		return uint64(*(*uint32)(p))
	default:
		return *(*uint64)(p)
	}
}

func (f *form) float(p unsafe.Pointer) (v float64, bits int) {
	if f.size == 4 {
		return float64(*(*float32)(p)), 32
	}
	return *(*float64)(p), 64
}

// appendFloat writes a number as encoding/json does: as ES6 does, and e-09 as e-9.
func appendFloat(dst []byte, v float64, bits int) []byte {
	abs, format := math.Abs(v), byte('f')
	if abs != 0 {
		if bits == 64 && (abs < 1e-6 || abs >= 1e21) || bits == 32 && (float32(abs) < 1e-6 || float32(abs) >= 1e21) {
			format = 'e'
		}
	}
	dst = strconv.AppendFloat(dst, v, format, -1, bits)
	if n := len(dst); format == 'e' && n >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

// appendDeep appends the payload of the value that p, a pointer to f.typ, points to.
func (f *form) appendDeep(dst []byte, p any) ([]byte, error) {
	if f.nils && reflect.ValueOf(p).Elem().IsNil() {
		return dst, nil
	}
	n := len(dst)
	var err error
	switch f.op {
	case opInterface:
		return AppendAny(dst, reflect.ValueOf(p).Elem().Interface())
	case opBinary:
		dst, err = appendBinary(append(dst, TagBinary), f.methods(p))
	case opPlain:
		dst, err = fast.Append(append(dst, TagJSON), p, fast.EscapeHTML|fast.SortMapKeys)
	default:
		var b []byte
		b, err = json.Marshal(p)
		dst = append(append(dst, TagJSON), b...)
	}
	if err != nil {
		return dst[:n], f.encodeError(err)
	}
	return dst, nil
}

func (f *form) encodeError(err error) error {
	var unsupported *json.UnsupportedTypeError
	if errors.As(err, &unsupported) {
		return fmt.Errorf("codec: cannot encode %s: %w: leave the field out with the tag `json:\"-\"`, or give its type MarshalJSON", f.typ, err)
	}
	return fmt.Errorf("codec: cannot encode %s: %w: change the value, or give its type MarshalJSON", f.typ, err)
}

func appendBinary(dst []byte, v any) ([]byte, error) {
	n := len(dst)
	if a, ok := v.(encoding.BinaryAppender); ok {
		b, err := a.AppendBinary(dst)
		if err == nil && len(b) < n {
			return dst, fmt.Errorf("AppendBinary returned less than it was given: it must append")
		}
		if err != nil {
			return dst, err
		}
		return b, nil
	}
	b, err := v.(encoding.BinaryMarshaler).MarshalBinary()
	return append(dst, b...), err
}

// methods returns the value that has the methods of f.typ: p, or the pointer in it.
func (f *form) methods(p any) any {
	if f.typ.Kind() == reflect.Pointer {
		return reflect.ValueOf(p).Elem().Interface()
	}
	return p
}
