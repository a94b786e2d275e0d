// Package runner runs commands on goroutines that are kept for reuse, and
// gives them their context.
//
//	p := runner.New()
//	p.Go(task) // task.Run() runs soon, on a goroutine of the pool
//	p.Close()  // waits for all
//
// # Guarantees
//
// A task that blocks never holds up the tasks behind it: as long as tasks wait,
// one goroutine is on its way to take the next. There is at most one such
// goroutine at a time (as in the Go scheduler's own wake-up rule), so that a
// stream of short tasks is run by as few goroutines as can keep up, and costs no
// wake-up per task.
//
// # Failures
//
// A task must recover its own panics.
package runner

import "sync"

// maxIdle is how many goroutines are kept waiting for the next burst.
const maxIdle = 64

// Task is something to run once.
type Task interface{ Run() }

// Pool runs tasks. Its zero value works; it is safe for concurrent use.
type Pool struct {
	wg     sync.WaitGroup
	mu     sync.Mutex
	queue  []Task // a ring: head, count
	head   int
	count  int
	idle   []*worker // last in, first out: warm stacks first
	waking bool      // a goroutine is on its way
	closed bool
}

type worker struct{ wake chan struct{} } // 1: a wake-up never blocks

// New returns an empty pool.
func New() *Pool { return &Pool{} }

// Go queues t. It never blocks. After Close it runs t all the same, on a
// goroutine that Close may not have waited for.
func (p *Pool) Go(t Task) {
	p.mu.Lock()
	p.push(t)
	p.wakeLocked(!p.closed)
	p.mu.Unlock()
}

// GoAll queues all tasks at the price of one.
func (p *Pool) GoAll(ts []Task) {
	if len(ts) == 0 {
		return
	}
	p.mu.Lock()
	for _, t := range ts {
		p.push(t)
	}
	p.wakeLocked(!p.closed)
	p.mu.Unlock()
}

// Close waits until all tasks have run and the pool's goroutines are gone.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	for _, w := range p.idle {
		w.wake <- struct{}{}
	}
	p.idle = nil
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Pool) push(t Task) {
	if p.count == len(p.queue) {
		q := make([]Task, max(16, 2*len(p.queue)))
		for i := range p.count {
			q[i] = p.queue[(p.head+i)&(len(p.queue)-1)]
		}
		p.queue, p.head = q, 0
	}
	p.queue[(p.head+p.count)&(len(p.queue)-1)] = t
	p.count++
}

func (p *Pool) pop() Task {
	t := p.queue[p.head]
	p.queue[p.head] = nil
	p.head = (p.head + 1) & (len(p.queue) - 1)
	p.count--
	if p.count == 0 && len(p.queue) > 4096 {
		p.queue = nil // a burst's memory is not kept
	}
	return t
}

// wakeLocked sends one goroutine on its way unless one is. Close waits for an
// owned one: it may be started while the pool is open, or by another owned one.
func (p *Pool) wakeLocked(owned bool) {
	if p.waking {
		return
	}
	p.waking = true
	if n := len(p.idle); n > 0 {
		w := p.idle[n-1]
		p.idle = p.idle[:n-1]
		w.wake <- struct{}{}
		return
	}
	if owned {
		p.wg.Add(1)
		go p.owned()
		return
	}
	go p.work(false)
}

func (p *Pool) owned() {
	defer p.wg.Done()
	p.work(true)
}

func (p *Pool) work(owned bool) {
	var w *worker // most that run a handler which blocks are never idle
	p.mu.Lock()
	p.waking = false // arrived
	for {
		if p.count == 0 {
			if p.closed || len(p.idle) >= maxIdle {
				p.mu.Unlock()
				return
			}
			if w == nil {
				w = &worker{make(chan struct{}, 1)}
			}
			p.idle = append(p.idle, w)
			p.mu.Unlock()
			<-w.wake
			p.mu.Lock()
			p.waking = false
			continue
		}
		t := p.pop()
		if p.count > 0 {
			p.wakeLocked(owned)
		}
		p.mu.Unlock()
		t.Run()
		p.mu.Lock()
	}
}
