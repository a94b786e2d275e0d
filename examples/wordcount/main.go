// Wordcount counts the words of all files of a directory, as MapReduce does: tasks count the
// words of pieces of files (map), send the counts to the reducer that has the word, by
// shared queues (shuffle), and the reducers add them up (reduce).
//
//	wordcount DIRECTORY                  one process: all of its processors
//	DISTGEAR_SERVE=127.0.0.1:4222 wordcount DIRECTORY
//	                                     one process, which others may join while it runs
//
//	distgear hub &                       many processes, all of which see the directory
//	export DISTGEAR_HUB=nats://127.0.0.1:4222
//	wordcount -work &                    as many of these as you like, at any time
//	wordcount DIRECTORY
//
// The files may be larger than memory: a piece is read where it is counted, the queues are
// bounded, and reducers that have many different words write them to temporary files (spill.go). A piece may be
// counted twice, when a worker was lost: reducers know its counts again. A reducer that is lost ends the program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
	"github.com/distgear/distgear/shared"
)

const (
	reducers  = 4
	pieceSize = 1 << 20 // bytes
)

func main() {
	work := flag.Bool("work", false, "only count for others, until interrupted")
	top := flag.Int("top", 10, "how many of the most frequent words are printed")
	flag.Parse()
	if !*work && flag.NArg() != 1 {
		log.Fatal("name one directory")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *work, flag.Arg(0), *top)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

// program is what all processes have.
type program struct {
	n      *distgear.Node
	ex     *executor.Executor
	count  *distgear.Action[piece, int]  // the result is the number of words
	reduce *distgear.Action[share, sums] // see reduce.go
}

func run(ctx context.Context, work bool, dir string, top int) (err error) {
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Leave(context.WithoutCancel(ctx))) }()
	p := &program{n: n, ex: executor.New(n, "wordcount")}
	p.count = &distgear.Action[piece, int]{Name: "count", Idempotent: true, Timeout: patience, Do: p.doCount}
	p.reduce = &distgear.Action[share, sums]{Name: "reduce", Timeout: 24 * time.Hour, Do: p.doReduce}
	if work {
		fmt.Println("works as", n.Name(), "until it is interrupted")
		return p.work(ctx)
	}
	working, stop := context.WithCancel(ctx)
	worked := make(chan error, 1) // one answer
	go func() { worked <- p.work(working) }()
	err = p.master(ctx, dir, top)
	stop()
	return errors.Join(err, <-worked)
}

// work has slots of their own for reducers, which last as long as the program: all of them may be here, and pieces are counted all the same.
func (p *program) work(ctx context.Context) error {
	reduced := make(chan error, 1) // one answer
	go func() { reduced <- p.ex.Work(ctx, reducers, p.reduce) }()
	return errors.Join(p.ex.Work(ctx, 0, p.count), <-reduced)
}

func (p *program) master(ctx context.Context, dir string, top int) error {
	pieces, files, err := split(dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := fmt.Sprintf("%x", rand.Uint64()) // in the names of its queues: nobody else uses them
	var queues []*shared.Queue[batch]
	var shares []share
	for r := range reducers {
		shares = append(shares, share{run, r, top})
		queues = append(queues, p.queue(run, r))
	}
	futures, err := executor.InvokeAll(ctx, p.ex, p.reduce, shares...)
	reduced := make(chan sums, 1) // one answer
	go func() {
		var all sums
		for f := range executor.AsCompleted(ctx, futures...) {
			s, err := f.Wait(ctx)
			if err != nil {
				cancel(err) // or the others would wait until the queue is emptied
			}
			all.Different += s.Different
			all.Top = append(all.Top, s.Top...)
		}
		reduced <- all
	}()
	words := 0
	if err == nil {
		for i := range pieces {
			pieces[i].Run, pieces[i].Number = run, i
		}
		for n, e := range executor.Map(ctx, p.ex, p.count, slices.Values(pieces), executor.Bar{Name: "pieces", Total: len(pieces)}) {
			words += n
			if err = errors.Join(err, e); err != nil {
				break
			}
		}
	}
	if err != nil {
		cancel(err)
	}
	for _, q := range queues {
		if err == nil {
			err = q.Put(ctx, batch{End: true}) // behind all counts
		}
	}
	all := <-reduced
	if err = errors.Join(err, context.Cause(ctx)); err != nil {
		for _, f := range futures {
			f.Cancel()
		}
	} else {
		fmt.Printf("%d words, %d different ones, in %d files\n", words, all.Different, files)
		for _, e := range most(all.Top, top) {
			fmt.Printf("%7d %s\n", e.Count, e.Word)
		}
	}
	for _, q := range queues {
		err = errors.Join(err, q.Destroy(context.WithoutCancel(ctx)))
	}
	return err
}

// queue is where a reducer takes counts from. It is bounded: who counts waits for who adds up.
func (p *program) queue(run string, reducer int) *shared.Queue[batch] {
	return shared.NewQueue[batch](p.n, fmt.Sprint("wordcount-", run, "-", reducer), 16)
}

// split cuts the files of a directory into pieces. What begins with a dot is passed over.
func split(dir string) (pieces []piece, files int, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, 0, err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != dir && strings.HasPrefix(d.Name(), ".") && d.IsDir():
			return filepath.SkipDir
		case !d.Type().IsRegular() || strings.HasPrefix(d.Name(), "."):
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files++
		for from := int64(0); from < info.Size(); from += pieceSize {
			pieces = append(pieces, piece{File: path, From: from, To: from + pieceSize})
		}
		return nil
	})
	return pieces, files, err
}
