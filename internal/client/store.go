package client

import (
	"strings"

	"github.com/distgear/distgear/internal/engine"
)

// LogName is the name of a cluster's log in the engine.
func LogName(cluster string) string { return "distgear-" + cluster }

// Store is where values are kept that are too large for the ledger, beside its log;
// nil in a process that is alone.
func (c *Client) Store() *engine.Objects {
	if c.alone != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.store == nil {
		c.store = c.cfg.Conn.Objects(LogName(strings.TrimPrefix(c.cfg.Prefix, "dg.")))
	}
	return c.store
}
