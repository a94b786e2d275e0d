package proc

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
)

// Postgres is the folder with PostgreSQL's programs: Debian keeps initdb out of PATH.
func Postgres() (string, error) {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed (apt-get install postgresql)")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1]), nil
}
