package engine

import (
	"errors"
	"os"
	"syscall"
)

// flock takes the file for this process until the file is closed, or says
// that another has it: nobody else can open it.
func flock(path string) (*os.File, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	const sharingViolation = syscall.Errno(32)
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	switch {
	case errors.Is(err, sharingViolation):
		return nil, errTaken
	case err != nil:
		return nil, err
	}
	return os.NewFile(uintptr(h), path), nil
}
