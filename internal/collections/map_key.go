package collections

import (
	"crypto/sha256"
	"fmt"
	"reflect"

	"github.com/distgear/distgear/internal/client"
	"github.com/distgear/distgear/internal/codec"
	"github.com/distgear/distgear/internal/objects"
)

// keyCodec makes bytes of keys.
type keyCodec[K comparable] struct {
	codec  codec.Of[K]
	err    error // the type cannot be one of keys
	safe   bool  // every key decodes to itself
	floats bool  // there are numbers that have two zeros
}

func newKeyCodec[K comparable]() keyCodec[K] {
	t := reflect.TypeFor[K]()
	c := keyCodec[K]{codec: codec.For[K]()}
	if bad := unfit(t, true); bad != nil {
		c.err = fmt.Errorf("%w: %v cannot be the key of a map: it has %v in it", objects.ErrInvalid, t, bad)
	}
	switch k := t.Kind(); {
	case t.PkgPath() != "": // it may encode itself in its own way
	case k == reflect.String, k == reflect.Bool, k >= reflect.Int && k <= reflect.Uintptr:
		c.safe = true
	}
	c.floats = floats(t)
	return c
}

// unfit is a type in t that no key may have: an interface, since two keys could not
// always be compared, and where others see it a pointer.
func unfit(t reflect.Type, exported bool) reflect.Type {
	switch t.Kind() {
	case reflect.Interface:
		return t
	case reflect.Pointer, reflect.Chan, reflect.UnsafePointer:
		if exported {
			return t
		}
	case reflect.Array:
		return unfit(t.Elem(), exported)
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if bad := unfit(f.Type, exported && f.IsExported()); bad != nil {
				return bad
			}
		}
	default:
	}
	return nil
}

func floats(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Float32, reflect.Float64:
		return true
	case reflect.Array:
		return floats(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if floats(t.Field(i).Type) {
				return true
			}
		}
	default:
	}
	return false
}

// positive makes -0 to 0, which are one key.
func positive(v reflect.Value) {
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		if v.Float() == 0 && v.CanSet() {
			v.SetFloat(0)
		}
	case reflect.Array:
		for i := range v.Len() {
			positive(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			positive(v.Field(i))
		}
	default:
	}
}

// append appends the bytes of a key.
func (c *keyCodec[K]) append(dst []byte, k K) ([]byte, error) {
	if c.err != nil {
		return dst, c.err
	}
	if c.floats {
		k = plus(k)
	}
	b, err := c.codec.Append(dst, k)
	if err != nil {
		return dst, fmt.Errorf("%w: key: %w", objects.ErrInvalid, err)
	}
	if !c.safe {
		back, err := c.codec.New(b[len(dst):])
		if err != nil {
			return dst, fmt.Errorf("%w: a key does not decode again: %w", objects.ErrInvalid, err)
		}
		if back != k {
			return dst, fmt.Errorf("%w: the key %v is %v when it is decoded again", objects.ErrInvalid, k, back)
		}
	}
	if n := len(b) - len(dst); n > client.MaxOp {
		return dst, fmt.Errorf("%w: a key of %d bytes", objects.ErrInvalid, n)
	}
	return b, nil
}

// plus is apart so that only its own copy of the key moves to the heap.
//
//go:noinline
func plus[K comparable](k K) K {
	positive(reflect.ValueOf(&k).Elem())
	return k
}

// LockName is the name of a key's lock.
func (s *Map[K, V]) LockName(k K) (string, error) {
	if s.Err != nil {
		return "", s.Err
	}
	b, err := s.keys.append(nil, k)
	if err != nil {
		return "", err
	}
	if len(s.Name)+1+len(b) <= objects.MaxName {
		return s.Name + "\x00" + string(b), nil
	}
	name := sha256.Sum256([]byte(s.Name))
	sum := sha256.Sum256(b) // two that collide share a lock
	return fmt.Sprintf("%x\x00%x", name[:16], sum), nil
}
