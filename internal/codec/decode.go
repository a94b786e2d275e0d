package codec

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"unicode/utf8"
	"unsafe"

	fast "github.com/segmentio/encoding/json"
)

// decodeFlat decodes what needs neither reflect nor methods into the zero value at p, and reports whether it did. Nothing here may keep p or data.
func (f *form) decodeFlat(data []byte, p unsafe.Pointer) (done bool, err error) {
	body := data[1:]
	switch data[0] {
	case TagRaw:
		switch f.op {
		case opString:
			*(*string)(p) = string(body)
			return true, nil
		case opBytes:
			*(*[]byte)(p) = append(make([]byte, 0, len(body)), body...)
			return true, nil
		}
	case TagJSON:
		switch f.op {
		case opBool:
			switch string(body) {
			case "true":
				*(*bool)(p) = true
				return true, nil
			case "false":
				return true, nil
			}
		case opInt:
			if v, ok := parseInt(body); ok {
				return f.setInt(p, v), nil
			}
		case opUint:
			if v, ok := parseInt(body); ok && body[0] != '-' {
				return f.setUint(p, uint64(v)), nil
			}
		case opFloat:
			return f.setFloat(p, body), nil
		case opPlain:
			return f.fields != nil && decodeFields(body, f.fields, p), nil
		}
	}
	if f.op == opRawJSON {
		*(*json.RawMessage)(p), err = rawJSON(data)
		return true, err
	}
	return false, nil
}

// parseInt parses the integers whose value surely fits; the rest, and all that is wrong, is left to encoding/json.
func parseInt(b []byte) (int64, bool) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 18 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	var v int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	if neg {
		v = -v
	}
	return v, true
}

func (f *form) setInt(p unsafe.Pointer, v int64) bool {
	switch f.size {
	case 1:
		*(*int8)(p) = int8(v)
		return v == int64(int8(v))
	case 2:
		*(*int16)(p) = int16(v)
		return v == int64(int16(v))
	case 4:
		*(*int32)(p) = int32(v)
		return v == int64(int32(v))
	default:
		*(*int64)(p) = v
		return true
	}
}

func (f *form) setUint(p unsafe.Pointer, v uint64) bool {
	switch f.size {
	case 1:
		*(*uint8)(p) = uint8(v)
		return v <= math.MaxUint8
	case 2:
		*(*uint16)(p) = uint16(v)
		return v <= math.MaxUint16
	case 4:
		*(*uint32)(p) = uint32(v)
		return v <= math.MaxUint32
	default:
		*(*uint64)(p) = v
		return true
	}
}

// setFloat parses the numbers that JSON and strconv read alike. What strconv reads and JSON does not (0x1p4, 1_000, Inf, .5, 01) is left to encoding/json.
func (f *form) setFloat(p unsafe.Pointer, b []byte) bool {
	if len(b) == 0 || len(b) > 32 { // 32: string(b) below stays on the stack
		return false
	}
	digits := b
	if digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) == 0 || digits[0] < '0' || digits[0] > '9' || digits[0] == '0' && len(digits) > 1 && digits[1] != '.' && digits[1]|0x20 != 'e' {
		return false
	}
	for i, c := range digits {
		switch {
		case c >= '0' && c <= '9', c|0x20 == 'e', c == '+', c == '-':
		case c == '.' && i+1 < len(digits) && digits[i+1] >= '0' && digits[i+1] <= '9':
		default:
			return false
		}
	}
	v, err := strconv.ParseFloat(string(b), int(f.size)*8)
	if err != nil {
		return false
	}
	if f.size == 4 {
		*(*float32)(p) = float32(v)
	} else {
		*(*float64)(p) = v
	}
	return true
}

// decodeDeep decodes the rest into what v, a pointer to f.typ, points to. data is not empty.
func (f *form) decodeDeep(data []byte, v any) error {
	tag, body := data[0], data[1:]
	switch {
	case tag != TagJSON && tag != TagRaw && tag != TagBinary:
		return fmt.Errorf("codec: cannot decode %s: the payload's tag %q is none of 'j', 'r', 'b': it was not made by this package, or by a later version", f.typ, tag)
	case f.op == opInterface && tag != TagJSON:
		return f.decodeInterface(tag, body, v)
	case f.op == opBinary:
		return f.decodeBinary(tag, body, v)
	case tag == TagRaw:
		return fmt.Errorf("codec: cannot decode raw data of %d bytes into %s: decode into string or []byte, or send a %[2]s", len(body), f.typ)
	case tag == TagBinary:
		return fmt.Errorf("codec: cannot decode binary data of %d bytes into %s: decode into the type that was sent, which has MarshalBinary", len(body), f.typ)
	}
	var err error
	if f.op == opPlain && shallow(body) && !longDigits(body) {
		err = decodePlain(body, v)
	} else {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		return fmt.Errorf("codec: cannot decode JSON into %s: %w: send JSON that fits the type", f.typ, err)
	}
	return nil
}

// maxDepth is how deep encoding/json lets JSON nest.
const maxDepth = 10_000

// shallow says that body cannot nest deeper than maxDepth. The fast library follows any nesting, even of fields it does not know, until the stack ends the
// process.
func shallow(body []byte) bool {
	return len(body) <= maxDepth || bytes.Count(body, []byte("["))+bytes.Count(body, []byte("{")) <= maxDepth
}

// longDigits says that body has 20 digits in a row, in a number or elsewhere. The fast library lets some integers of so many digits overflow without an error.
// Such a row covers one of the bytes 19, 39, 59 …, so only these are looked at, and their neighbours where they are digits.
func longDigits(body []byte) bool {
	const row = 20
	for i := row - 1; i < len(body); i += row {
		if !isDigit(body[i]) {
			continue
		}
		from, to := i, i+1
		for from > 0 && isDigit(body[from-1]) {
			from--
		}
		for to < len(body) && isDigit(body[to]) {
			to++
		}
		if to-from >= row {
			return true
		}
	}
	return false
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// decodePlain decodes by the fast library. It is not known to panic; it uses unsafe, the data come from another process, and a plain type has no methods of the
// user's whose panic this would hide.
func decodePlain(body []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the JSON library panicked, which is a fault of DistGear: %v", p)
		}
	}()
	return fast.Unmarshal(body, v)
}

// decodeInterface decodes data that are not JSON into an interface: the text or bytes themselves.
func (f *form) decodeInterface(tag byte, body []byte, v any) error {
	p, ok := v.(*any)
	if !ok {
		return fmt.Errorf("codec: cannot decode into the interface %s: decode into any, or into the type that was sent", f.typ)
	}
	if tag == TagRaw && utf8.Valid(body) {
		*p = string(body)
	} else {
		*p = append(make([]byte, 0, len(body)), body...)
	}
	return nil
}

func (f *form) decodeBinary(tag byte, body []byte, v any) error {
	switch {
	case tag == TagRaw:
		return fmt.Errorf("codec: cannot decode raw data of %d bytes into %s: send a %[2]s, or its binary form in base64 as a JSON string", len(body), f.typ)
	case tag == TagJSON && string(bytes.TrimSpace(body)) == "null":
		return nil
	case tag == TagJSON:
		var b []byte // encoding/json fills it from an array of numbers too, which we did not promise
		if !bytes.HasPrefix(bytes.TrimSpace(body), []byte(`"`)) || json.Unmarshal(body, &b) != nil {
			return fmt.Errorf("codec: cannot decode JSON into %s: the type has a binary form only; send that in base64 as a JSON string", f.typ)
		}
		body = b
	default:
		body = bytes.Clone(body) // UnmarshalBinary should copy what it keeps; some forget
	}
	if f.typ.Kind() == reflect.Pointer {
		n := reflect.New(f.typ.Elem())
		reflect.ValueOf(v).Elem().Set(n)
		v = n.Interface()
	}
	if err := v.(encoding.BinaryUnmarshaler).UnmarshalBinary(body); err != nil {
		return fmt.Errorf("codec: cannot decode %s: its UnmarshalBinary: %w", f.typ, err)
	}
	return nil
}

var errNotJSON = errors.New("codec: the payload is tagged as JSON and is not valid JSON: its sender made it without this package")

// rawJSON returns a payload that is not empty as JSON, in memory of its own.
func rawJSON(data []byte) (json.RawMessage, error) {
	tag, body := data[0], data[1:]
	switch {
	case tag == TagJSON:
		if !json.Valid(body) {
			return nil, errNotJSON
		}
		return bytes.Clone(body), nil
	case tag == TagRaw && utf8.Valid(body):
		return fast.AppendEscape(make([]byte, 0, len(body)+2), string(body), fast.EscapeHTML), nil
	case tag == TagRaw, tag == TagBinary:
		b := make([]byte, 0, base64.StdEncoding.EncodedLen(len(body))+2)
		b = base64.StdEncoding.AppendEncode(append(b, '"'), body)
		return append(b, '"'), nil
	}
	return nil, fmt.Errorf("codec: cannot show a payload as JSON: its tag %q is none of 'j', 'r', 'b': it was not made by this package, or by a later version", tag)
}
