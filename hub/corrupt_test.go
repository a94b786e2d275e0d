package hub_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/distgear/distgear/hub"
)

// A log that was changed on disk: the hub does not go on with a part of it as if nothing was, and says which folder it is about.
func TestLedger_DamagedOnDisk(t *testing.T) {
	dir := t.TempDir()
	h := startHub(t, hub.Config{Listen: "127.0.0.1:0", Dir: dir})
	_, add := counter(t, h.URL(), h.Prefix(), 20*time.Second)
	for want := range uint64(100) {
		if n, err := add(); err != nil || n != want+1 {
			t.Fatal(n, err)
		}
	}
	h.Close()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatal(blocks, err)
	}
	data, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data[len(data)/2:], []byte("DL\x01")) + len(data)/2 // a record of the ledger, in the middle
	data[at+20] ^= 0xff
	if err := os.WriteFile(blocks[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err = hub.Start(within(t), hub.Config{Listen: "127.0.0.1:0", Dir: dir, TTL: ttl, Logger: quiet()})
	if err == nil {
		h.Close()
		t.Fatal("it goes on")
	}
	t.Log(err)
	if !strings.Contains(err.Error(), "distgear-default") {
		t.Error(err)
	}
}
