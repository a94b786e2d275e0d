package demo

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/cluster"
)

// Work is the input of every action of the demo.
type Work struct {
	Release string        `json:"release"`
	Step    string        `json:"step"`
	Takes   time.Duration `json:"takes"`
	Text    string        `json:"text,omitempty"`
	Broken  bool          `json:"broken,omitempty"`
	Undo    time.Duration `json:"undo,omitempty"` // how long its undo takes; zero: undoTakes
}

// name is the work's name in files and journal.
func (w Work) name() string { return w.Release + "." + w.Step }

// Made is their result.
type Made struct {
	Path string           `json:"path"`
	Sum  string           `json:"sum"`
	Node cluster.NodeName `json:"node"`
}

// kit is the actions of the demo. In a worker they act; in the demo's own
// process they are the handles that plans are made with.
type kit struct {
	root   string // the demo's folder
	name   cluster.NodeName
	folder string // below nodes, where it writes

	Fetch, Join, Start *distgear.Action[Work, Made] // deploy
	Reserve, Migrate   *distgear.Action[Work, Made] // migrate
	Index              *distgear.Action[Work, Made] // index

	Trade []*distgear.Action[Work, Made] // order, one after the other
}

func newKit(root string, name cluster.NodeName) *kit {
	k := &kit{root: root, name: name, folder: string(name)}
	write := func(kind string) *distgear.Action[Work, Made] {
		return &distgear.Action[Work, Made]{Name: kind, Do: k.do, Undo: k.undo}
	}
	k.Fetch, k.Join, k.Start = write("fetch"), write("join"), write("start")
	k.Reserve, k.Migrate = write("reserve"), write("migrate")
	for _, kind := range tradeSteps() {
		k.Trade = append(k.Trade, write("order-"+kind))
	}
	shared := &kit{root: root, name: name, folder: "shared"} // doing it twice, anywhere, is doing it once
	k.Index = &distgear.Action[Work, Made]{Name: "index", Do: shared.do, Idempotent: true, Retries: 3}
	return k
}

func (k *kit) handlers() []distgear.Handler {
	if isMaster(k.name) {
		return []distgear.Handler{k.order()}
	}
	hs := []distgear.Handler{k.Fetch, k.Join, k.Start, k.Reserve, k.Migrate, k.Index}
	for _, a := range k.Trade {
		hs = append(hs, a)
	}
	return hs
}

func (k *kit) file(w Work) string { return filepath.Join(k.root, "nodes", k.folder, w.name()) }

// do writes the step's file in this node's folder: at once a part of it, the
// rest when its time is over. So whoever dies between leaves something behind.
func (k *kit) do(ctx context.Context, w Work) (Made, error) {
	if err := k.note(entry{Step: w.name(), What: "do"}); err != nil {
		return Made{}, err
	}
	file := k.file(w)
	if err := os.WriteFile(file, []byte("partial"), 0o600); err != nil {
		return Made{}, err
	}
	if err := wait(ctx, w.Takes); err != nil {
		return Made{}, err
	}
	if w.Broken {
		return Made{}, errors.New("port 8080 is taken")
	}
	text := w.Text + "\n" + w.Step + " on " + string(k.name) + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return Made{}, err
	}
	return Made{Path: file, Sum: sum([]byte(text)), Node: k.name}, k.note(entry{Step: w.name(), What: "done"})
}

// undo removes the file. It accepts that there is none.
func (k *kit) undo(ctx context.Context, d distgear.Did[Work, Made]) error {
	if err := k.note(entry{Step: d.In.name(), What: "undo", Outcome: d.Outcome.String()}); err != nil {
		return err
	}
	if err := wait(ctx, cmp.Or(d.In.Undo, undoTakes)); err != nil {
		return err
	}
	err := os.Remove(k.file(d.In))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return k.note(entry{Step: d.In.name(), What: "undone"})
}

const undoTakes = 250 * time.Millisecond // long enough to be seen

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:6])
}

// note adds a line to the journal that all workers share: the demo compares what
// records say with it. Appends of a line are whole.
func (k *kit) note(e entry) error {
	e.Node = k.name
	f, err := os.OpenFile(filepath.Join(k.root, "journal"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	line, _ := json.Marshal(e) // strings only
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// entry is a line of the journal.
type entry struct {
	Step    string           `json:"step"`
	What    string           `json:"what"`              // do, done, undo, undone
	Outcome string           `json:"outcome,omitempty"` // undo: what it was told
	Node    cluster.NodeName `json:"node"`
}

// readJournal is the lines so far.
func readJournal(root string) ([]entry, error) {
	b, err := os.ReadFile(filepath.Join(root, "journal"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var es []entry
	for line := range bytes.Lines(b) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		es = append(es, e)
	}
	return es, nil
}

// readFiles is the workers' files and what is in them, by node/name.
func readFiles(root string) (map[string]string, error) {
	paths, err := filepath.Glob(filepath.Join(root, "nodes", "*", "*"))
	files := map[string]string{}
	for _, p := range paths {
		b, e := os.ReadFile(p)
		err = errors.Join(err, e)
		files[filepath.Base(filepath.Dir(p))+"/"+filepath.Base(p)] = string(b)
	}
	return files, err
}

// Worker is a worker process: the node name of the hub, until stdin ends or ctx
// does. Its work is under root; it says "ready" on out when it is a member.
func Worker(ctx context.Context, name cluster.NodeName, hub, root string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process, or when the demo closes its end
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	n, err := distgear.Join(ctx, distgear.Config{
		Cluster: clusterName, Name: name, Hub: hub, Token: os.Getenv("DISTGEAR_TOKEN"),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	if err := n.Handle(newKit(root, name).handlers()...); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	<-ctx.Done()
	lctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	if err := n.Leave(lctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
