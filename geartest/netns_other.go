//go:build !linux

package geartest

import (
	"errors"
	"testing"
)

// A lan is a network of namespaces, which only Linux has.
type lan struct{}

func (*lan) String() string { return "" }

// A place is where a host stands in a lan.
type place struct{ namespace, addr string }

func newLAN(testing.TB) (*lan, error) { return nil, errors.New("no network namespaces here") }

func (*lan) plug(int) (place, error) { panic("no lan") } // newLAN made none
func (*lan) cable(place, bool) error { panic("no lan") }
