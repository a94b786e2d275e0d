package proc

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Page is memory that the processes of a trial share without asking anybody: it judges the locks that are measured. Whoever holds the lock enters, and
// leaves before it unlocks.
type Page struct {
	owner      atomic.Uint64 // who is inside; 0: nobody
	grants     atomic.Uint64 // written by load and store: two inside at once lose some
	handoffs   atomic.Uint64 // grants whose process is not that of the one before
	last       atomic.Uint64 // process of the last grant
	token      atomic.Uint64 // of the last grant
	violations atomic.Uint64
}

// NewPage makes the file of a page.
func NewPage(path string) error { return os.WriteFile(path, make([]byte, os.Getpagesize()), 0o600) }

// OpenPage maps the file of a page. It stays mapped until the process ends.
func OpenPage(path string) (*Page, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := syscall.Mmap(int(f.Fd()), 0, os.Getpagesize(), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap %s: %w", path, err)
	}
	return (*Page)(unsafe.Pointer(&b[0])), nil
}

// Enter says that a caller of a process has the lock, with a token that only grows, or 0 where there is none. Callers and processes are numbered from 1.
func (p *Page) Enter(caller, process int, token uint64) {
	if !p.owner.CompareAndSwap(0, uint64(caller)) {
		p.violations.Add(1)
	}
	p.grants.Store(p.grants.Load() + 1)
	if last := p.last.Swap(uint64(process)); last != uint64(process) && last != 0 {
		p.handoffs.Store(p.handoffs.Load() + 1)
	}
	if token != 0 && p.token.Swap(token) >= token {
		p.violations.Add(1)
	}
}

// Leave says that the caller is about to unlock.
func (p *Page) Leave(caller int) {
	if !p.owner.CompareAndSwap(uint64(caller), 0) {
		p.violations.Add(1)
	}
}

// Counts are the grants and the hand-offs between processes so far, and how often two were inside at once or a token did not grow.
func (p *Page) Counts() (grants, handoffs, violations uint64) {
	return p.grants.Load(), p.handoffs.Load(), p.violations.Load()
}
