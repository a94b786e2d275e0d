//go:build !windows && (!unix || aix || solaris)

package engine

import (
	"errors"
	"os"
)

// flock refuses: a store that two servers may open loses what they acknowledge.
func flock(string) (*os.File, error) {
	return nil, errors.New("this system has no lock on files that distgear knows")
}
