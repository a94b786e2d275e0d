package codec

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"time"
)

// op is how values of a type are encoded.
type op uint8

const (
	opEmpty     op = iota // a struct without fields: no bytes
	opString              // raw; so is opBytes
	opBytes               //
	opBool                // JSON by strconv; so are the next three
	opInt                 //
	opUint                //
	opFloat               //
	opRawJSON             // json.RawMessage
	opBinary              // MarshalBinary
	opInterface           // the value in it
	opPlain               // JSON by the fast library
	opJSON                // JSON by encoding/json
)

// flat says that appendFlat encodes it, from its memory alone and without methods.
func (o op) flat() bool { return o <= opRawJSON }

// form is what codec knows about a type.
type form struct {
	typ    reflect.Type
	op     op
	size   uint8 // bytes of a number
	copies bool
	nils   bool    // the type has a nil that is the empty payload
	fields []field // of a plain struct of the simplest kind
}

// forms caches the forms by type, as encoding/json caches its encoders. It only grows, by as many types as the program has.
var forms sync.Map // reflect.Type → *form

func formOf(t reflect.Type) *form {
	if f, ok := forms.Load(t); ok {
		return f.(*form)
	}
	f, _ := forms.LoadOrStore(t, newForm(t))
	return f.(*form)
}

func newForm(t reflect.Type) *form {
	f := &form{typ: t, op: opJSON, copies: copies(t)}
	self, binary := hasText(t), hasBinary(t)
	switch k := t.Kind(); {
	case t == reflect.TypeFor[json.RawMessage]():
		f.op = opRawJSON
	case k == reflect.Interface:
		f.op = opInterface
	case self:
	case binary:
		f.op = opBinary
	case k == reflect.String && t != reflect.TypeFor[json.Number]():
		f.op = opString
	case k == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && !hasText(t.Elem()) && !hasBinary(t.Elem()):
		f.op = opBytes
	case k == reflect.Struct && t.NumField() == 0:
		f.op = opEmpty
	case k == reflect.Bool:
		f.op = opBool
	case k >= reflect.Int && k <= reflect.Int64:
		f.op, f.size = opInt, uint8(t.Size())
	case k >= reflect.Uint && k <= reflect.Uintptr:
		f.op, f.size = opUint, uint8(t.Size())
	case k == reflect.Float32 || k == reflect.Float64:
		f.op, f.size = opFloat, uint8(t.Size())
	case plain(t, nil):
		f.op = opPlain
		if k == reflect.Struct {
			f.fields = fieldsOf(t)
		}
	}
	switch t.Kind() {
	case reflect.Pointer:
		f.nils = true
	case reflect.Slice, reflect.Map:
		f.nils = !self && !binary // the method of a nil map may have something to say
	}
	return f
}

var (
	jsonMarshaler     = reflect.TypeFor[json.Marshaler]()
	jsonUnmarshaler   = reflect.TypeFor[json.Unmarshaler]()
	textMarshaler     = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshaler   = reflect.TypeFor[encoding.TextUnmarshaler]()
	binaryAppender    = reflect.TypeFor[encoding.BinaryAppender]()
	binaryMarshaler   = reflect.TypeFor[encoding.BinaryMarshaler]()
	binaryUnmarshaler = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// pointerTo returns the type with all the methods that values of t can have: *t, or t itself if it is a pointer.
func pointerTo(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t
	}
	return reflect.PointerTo(t)
}

// hasText says that t has a JSON or text form of its own, in either direction.
func hasText(t reflect.Type) bool {
	p := pointerTo(t)
	return p.Implements(jsonMarshaler) || p.Implements(jsonUnmarshaler) || p.Implements(textMarshaler) || p.Implements(textUnmarshaler)
}

// hasBinary says that t has a binary form of its own, in both directions: one of them alone would lose the value.
func hasBinary(t reflect.Type) bool {
	p := pointerTo(t)
	return (p.Implements(binaryMarshaler) || p.Implements(binaryAppender)) && p.Implements(binaryUnmarshaler)
}

func copies(t reflect.Type) bool {
	switch k := t.Kind(); {
	case t == reflect.TypeFor[time.Time](): // its pointer is to a Location, which nobody changes
		return true
	case k >= reflect.Bool && k <= reflect.Complex128, k == reflect.String:
		return true
	case k == reflect.Array:
		return t.Len() == 0 || copies(t.Elem())
	case k == reflect.Struct:
		for i := range t.NumField() {
			if !copies(t.Field(i).Type) {
				return false
			}
		}
		return true
	}
	return false
}

// plain says that the fast library reads and writes t exactly as encoding/json does. What it leaves out is where the two were seen to differ, or where values
// can be cyclic or arbitrarily deep, which encoding/json survives and the other does not. outer is the types around t.
func plain(t reflect.Type, outer []reflect.Type) bool {
	if hasText(t) || t == reflect.TypeFor[json.Number]() || t == reflect.TypeFor[time.Duration]() {
		return false
	}
	switch k := t.Kind(); k {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Struct:
		for _, o := range outer {
			if o == t {
				return false // recursive
			}
		}
		outer = append(outer, t)
		switch {
		case k == reflect.Struct:
			return plainFields(t, outer)
		case k == reflect.Map && t.Key() != reflect.TypeFor[string]():
			return false
		case k == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
			return t.Elem() == reflect.TypeFor[byte]()
		}
		return plain(t.Elem(), outer)
	default:
		return k >= reflect.Int && k <= reflect.Uint64
	}
}

func plainFields(t reflect.Type, outer []reflect.Type) bool {
	seen := make(map[string]bool)
	for i := range t.NumField() {
		sf := t.Field(i)
		if sf.Anonymous {
			return false
		}
		tag, tagged := sf.Tag.Lookup("json")
		if !sf.IsExported() || tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		if name == "" {
			name = sf.Name
		}
		if tagged && options != "" && options != "omitempty" || !plainName(name) {
			return false
		}
		// Names that differ in case only: which of them a third spelling means is a subtlety.
		if name = strings.ToLower(name); seen[name] {
			return false
		}
		seen[name] = true
		if !plain(sf.Type, outer) {
			return false
		}
	}
	return true
}

// plainName leaves out names that need escaping, and those with letters that fold to something outside ASCII or from it.
func plainName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return s != ""
}
