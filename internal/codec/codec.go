// Package codec turns values into the payload bytes of commands and results, and back.
//
// A payload is one tag byte and data:
//
//	'j'  JSON, as encoding/json writes it
//	'r'  raw: the bytes of a string or of a []byte
//	'b'  binary: what MarshalBinary or AppendBinary of the type returned
//
// A payload of no bytes at all is the zero value: struct{}, and nil of a pointer, a slice, a map or an interface.
//
//	b, err := codec.Append(nil, order)    // b[0] == 'j'
//	var o Order
//	err = codec.Decode(b, &o)
//
// Which of the three a type gets: a type that marshals itself to JSON or text is JSON; one that marshals itself to binary only is binary; json.RawMessage is
// JSON as it is; other types of kind string and []byte are raw; all else is JSON. A type that marshals itself with methods on its pointer does so here even
// when it is passed by value, so that what was encoded can be decoded.
//
// # Guarantees
//
// Decode keeps no reference to its input. JSON is what encoding/json accepts and means, whichever of two libraries reads it (docs/adr/0002-codec.md); types that
// marshal themselves, arrays, interfaces and recursive types always go to encoding/json. Strings and []byte decode from JSON too, as do binary types (base64):
// an HTTP gateway has nothing but JSON to send. All functions are safe for concurrent use; the values given to them are only as safe as they are.
//
// # Failures
//
// Append returns dst as it was and an error for values that have no JSON (functions, channels, NaN, cycles) or whose own methods fail. Decode returns an error,
// and leaves the zero value, for data that do not fit the type; it does not panic because of data, only because a type's own method does. Errors name the Go
// type. Nothing is retried.
package codec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"unsafe"
)

// The first byte of a payload.
const (
	TagJSON   = 'j'
	TagRaw    = 'r'
	TagBinary = 'b'
)

// Of is the codec of one type, looked up once; its methods then save the look-up that the functions of the same names do on each call. The zero value works, and
// looks up on each call.
type Of[T any] struct{ form *form }

// For returns the codec of T.
func For[T any]() Of[T] { return Of[T]{formOf(reflect.TypeFor[T]())} }

func (o Of[T]) get() *form {
	if o.form != nil {
		return o.form
	}
	return formOf(reflect.TypeFor[T]())
}

// Append appends the payload of v to dst.
func (o Of[T]) Append(dst []byte, v T) ([]byte, error) {
	f := o.get()
	if f.op.flat() {
		// Nothing below keeps &v, so v stays on the stack: strings, bytes and numbers are encoded without an allocation.
		return f.appendFlat(dst, unsafe.Pointer(&v))
	}
	if f.fields != nil {
		if b, ok := appendFields(append(dst, TagJSON), f.fields, unsafe.Pointer(&v)); ok {
			return b, nil
		}
	}
	return appendHeap(dst, f, v)
}

// appendHeap is apart from Append so that only its own copy of the value moves to the heap.
//
//go:noinline
func appendHeap[T any](dst []byte, f *form, v T) ([]byte, error) { return f.appendDeep(dst, &v) }

// Decode stores in *v the value of a payload. *v is the zero value first, so that nothing of an earlier value shows through, and after an error. If T is an
// interface type and *v holds a non-nil pointer, the payload is decoded into what it points to, as by DecodeAny.
func (o Of[T]) Decode(data []byte, v *T) error {
	f := o.get()
	if f.op == opInterface {
		if p := reflect.ValueOf(*v); p.Kind() == reflect.Pointer && !p.IsNil() {
			return DecodeAny(data, p.Interface())
		}
	}
	var zero T
	*v = zero
	if len(data) == 0 {
		return nil
	}
	done, err := f.decodeFlat(data, unsafe.Pointer(v))
	if !done {
		*v = zero
		err = f.decodeDeep(data, v)
	}
	if err != nil {
		*v = zero
	}
	return err
}

// New returns the value of a payload. It is Decode into a variable that stays on the stack where the type allows.
func (o Of[T]) New(data []byte) (T, error) {
	var v, zero T
	if len(data) == 0 {
		return zero, nil
	}
	f := o.get()
	done, err := f.decodeFlat(data, unsafe.Pointer(&v))
	if !done {
		return newHeap[T](data, f)
	}
	if err != nil {
		return zero, err
	}
	return v, nil
}

// newHeap is apart from New so that only its own value moves to the heap.
//
//go:noinline
func newHeap[T any](data []byte, f *form) (v T, err error) {
	if err = f.decodeDeep(data, &v); err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}

// Copies is the method form of the function Copies.
func (o Of[T]) Copies() bool { return o.get().copies }

// Append appends the payload of v to dst. On an error dst is returned as it was. An interface is encoded as the value in it.
func Append[T any](dst []byte, v T) ([]byte, error) { return Of[T]{}.Append(dst, v) }

// Decode stores in *v the value of a payload; see Of.Decode.
func Decode[T any](data []byte, v *T) error { return Of[T]{}.Decode(data, v) }

// Copies reports whether a value of T can be handed to another goroutine as it is, without encoding and decoding it, because nothing that one side does to its
// copy can be seen by the other: T is made of booleans, numbers, strings and time.Time, in structs and arrays. A slice, map, pointer, interface, function or
// channel anywhere in it makes it false.
func Copies[T any]() bool { return Of[T]{}.Copies() }

// AppendAny is Append for a value whose type is known only when the program runs. It costs an allocation more.
func AppendAny(dst []byte, v any) ([]byte, error) {
	if v == nil {
		return dst, nil
	}
	rv := reflect.ValueOf(v)
	p := reflect.New(rv.Type()) // an addressable copy: methods on the pointer count, as they do in Append
	p.Elem().Set(rv)
	f := formOf(rv.Type())
	if f.op.flat() {
		return f.appendFlat(dst, p.UnsafePointer())
	}
	if f.fields != nil {
		if b, ok := appendFields(append(dst, TagJSON), f.fields, p.UnsafePointer()); ok {
			return b, nil
		}
	}
	return f.appendDeep(dst, p.Interface())
}

// DecodeAny is Decode for a value whose type is known only when the program runs: v is a non-nil pointer to it.
func DecodeAny(data []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fmt.Errorf("codec: cannot decode into %s: pass a non-nil pointer", typeName(reflect.TypeOf(v)))
	}
	f := formOf(p.Type().Elem())
	if f.op == opInterface {
		if e := p.Elem().Elem(); e.Kind() == reflect.Pointer && !e.IsNil() && e.UnsafePointer() != p.UnsafePointer() {
			return DecodeAny(data, e.Interface())
		}
	}
	p.Elem().SetZero()
	if len(data) == 0 {
		return nil
	}
	done, err := f.decodeFlat(data, p.UnsafePointer())
	if !done {
		p.Elem().SetZero()
		err = f.decodeDeep(data, v)
	}
	if err != nil {
		p.Elem().SetZero()
	}
	return err
}

// ToJSON returns a payload as JSON for people and for clients that speak nothing else: JSON as it is, raw data as a JSON string if they are valid UTF-8 and in
// base64 otherwise, binary in base64, no bytes as null. A []byte that happens to be UTF-8 is shown as text; a program that must tell decodes into its type.
func ToJSON(data []byte) (json.RawMessage, error) {
	if len(data) == 0 {
		return json.RawMessage("null"), nil
	}
	return rawJSON(data)
}

func typeName(t reflect.Type) string {
	if t == nil {
		return "nil"
	}
	return t.String()
}
