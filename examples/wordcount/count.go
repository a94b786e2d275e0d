package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	patience  = 10 * time.Minute // for a piece: who counts waits for who adds up
	batchSize = 2000             // words in a batch
)

// piece is a part of a file: the fields (what is between blanks) that begin from From on, and before To.
type piece struct {
	Run      string
	Number   int
	File     string
	From, To int64
}

// counted is how often a word is there.
type counted struct {
	Word  string
	Count int
}

// batch is some of a piece's counts. A piece that is counted again makes the same batches with the same numbers.
type batch struct {
	Piece, Number int
	Counts        []counted
	End           bool // nothing comes any more
}

// doCount counts the words of a piece, and sends each to its reducer.
func (p *program) doCount(ctx context.Context, in piece) (words int, err error) {
	counts := map[string]int{}
	if err := fields(in, func(field string) {
		for word := range strings.FieldsFuncSeq(strings.ToLower(field), func(r rune) bool { return !unicode.IsLetter(r) }) {
			counts[word]++
			words++
		}
	}); err != nil {
		return 0, fmt.Errorf("%s: %w", in.File, err)
	}
	var parts [reducers][]counted
	for word, n := range counts {
		h := fnv.New32a()
		_, _ = h.Write([]byte(word)) // it has no errors
		r := h.Sum32() % reducers
		parts[r] = append(parts[r], counted{word, n})
	}
	for r, part := range parts {
		slices.SortFunc(part, byWord) // so that batches are the same each time
		number := 0
		for some := range slices.Chunk(part, batchSize) {
			if err := p.queue(in.Run, r).Put(ctx, batch{Piece: in.Number, Number: number, Counts: some}); err != nil {
				return 0, err
			}
			number++
		}
	}
	return words, nil
}

func byWord(a, b counted) int { return strings.Compare(a.Word, b.Word) }

// most are the most frequent words.
func most(all []counted, n int) []counted {
	slices.SortFunc(all, func(a, b counted) int { return cmp.Or(b.Count-a.Count, byWord(a, b)) })
	return all[:min(n, len(all))]
}

// fields calls f for each field of a piece.
func fields(in piece, f func(string)) error {
	file, err := os.Open(in.File)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	at := max(in.From-1, 0)             // one byte before: is it a blank, or the piece before has the first field
	if _, err := file.Seek(at, io.SeekStart); err != nil {
		return err
	}
	var begin int64 // of the field in the file
	s := bufio.NewScanner(file)
	s.Buffer(make([]byte, 0, 1<<16), 1<<20) // a field has at most 1 MiB
	s.Split(func(data []byte, last bool) (int, []byte, error) {
		advance, blanks, field := cut(data, last)
		if begin = at + int64(blanks); field == nil {
			begin = at
		}
		at += int64(advance)
		return advance, field, nil
	})
	for s.Scan() && begin < in.To {
		if begin >= in.From {
			f(s.Text())
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return errors.New("more than 1 MiB without a blank: is it text?")
	}
	return s.Err()
}

// cut finds the first field in data, and the number of blanks before it. The field is nil if more data is needed.
func cut(data []byte, last bool) (advance, blanks int, field []byte) {
	for blanks < len(data) && data[blanks] <= ' ' {
		blanks++
	}
	for i := blanks; i < len(data); i++ {
		if data[i] <= ' ' {
			return i + 1, blanks, data[blanks:i]
		}
	}
	if last && blanks < len(data) {
		return len(data), blanks, data[blanks:]
	}
	return blanks, blanks, nil
}
