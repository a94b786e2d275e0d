package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

const (
	spillSize = 20_000 // different words that a reducer has in memory
	maxFiles  = 20     // that a reducer has
)

// share is a reducer's: the words whose hash is its number.
type share struct {
	Run     string
	Reducer int
	Top     int
}

// sums is what a reducer found.
type sums struct {
	Different int
	Top       []counted
}

// doReduce adds up what comes in, until the end.
func (p *program) doReduce(ctx context.Context, in share) (out sums, err error) {
	r := &reducer{counts: map[string]int{}}
	defer func() { err = errors.Join(err, r.close()) }()
	queue, seen := p.queue(in.Run, in.Reducer), map[[2]int]bool{}
	for {
		b, err := queue.Take(ctx)
		if err != nil {
			return sums{}, err
		}
		if b.End {
			break
		}
		id := [2]int{b.Piece, b.Number}
		if !seen[id] { // or its piece was counted twice
			err = r.add(b.Counts)
		}
		if seen[id] = true; err != nil {
			return sums{}, err
		}
	}
	if err := r.spill(); err != nil {
		return sums{}, err
	}
	err = r.merge(func(c counted) {
		out.Different++
		if out.Top = append(out.Top, c); len(out.Top) > 1000+in.Top {
			out.Top = most(out.Top, in.Top)
		}
	})
	out.Top = most(out.Top, in.Top)
	return out, err
}

// reducer is counts in memory, and in files, each sorted by word.
type reducer struct {
	counts map[string]int
	files  []*os.File
}

// add takes counts up, and writes them to a file when they are many.
func (r *reducer) add(some []counted) error {
	for _, c := range some {
		r.counts[c.Word] += c.Count
	}
	if len(r.counts) < spillSize {
		return nil
	}
	return r.spill()
}

// spill writes the counts in memory to a file, and makes one file of many.
func (r *reducer) spill() error {
	file, err := write(func(f func(counted)) error {
		for _, word := range slices.Sorted(maps.Keys(r.counts)) {
			f(counted{word, r.counts[word]})
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.counts = map[string]int{} // a cleared one would stay as large
	r.files = append(r.files, file)
	if len(r.files) < maxFiles {
		return nil
	}
	old := &reducer{files: r.files}
	r.files = nil
	if file, err = write(old.merge); err == nil {
		r.files = append(r.files, file)
	}
	return errors.Join(err, old.close())
}

// write writes a line for each word to a file.
func write(words func(func(counted)) error) (*os.File, error) {
	f, err := os.CreateTemp("", "wordcount-*")
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriter(f)
	err = words(func(c counted) { _, _ = fmt.Fprintln(w, c.Word, c.Count) }) // Flush has the error
	err = errors.Join(err, w.Flush())
	if _, e := f.Seek(0, io.SeekStart); err != nil || e != nil {
		return nil, errors.Join(err, e, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// merge calls f for each word of the files, in alphabetical order, with the sum of its counts.
func (r *reducer) merge(f func(counted)) error {
	heads := make([]*head, len(r.files)) // of the files that have not ended
	for i, file := range r.files {
		heads[i] = &head{file: bufio.NewReader(file)}
	}
	var fault error
	ended := func(h *head) bool {
		err := h.next()
		if err != nil && !errors.Is(err, io.EOF) {
			fault = err
		}
		return err != nil
	}
	for heads = slices.DeleteFunc(heads, ended); len(heads) > 0; {
		sum := counted{Word: slices.MinFunc(heads, func(a, b *head) int { return byWord(a.counted, b.counted) }).Word}
		heads = slices.DeleteFunc(heads, func(h *head) bool {
			if h.Word != sum.Word {
				return false
			}
			sum.Count += h.Count
			return ended(h)
		})
		f(sum)
	}
	return fault
}

// close removes the files.
func (r *reducer) close() (err error) {
	for _, f := range r.files {
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return err
}

// head is the next count of a file.
type head struct {
	counted

	file *bufio.Reader
}

func (h *head) next() error {
	line, err := h.file.ReadString('\n')
	if err != nil {
		return err
	}
	word, count, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	n, err := strconv.Atoi(count)
	h.counted = counted{word, n}
	return err
}
