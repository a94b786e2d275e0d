package executor_test

import (
	"testing"

	"github.com/distgear/distgear/executor"
)

// TestPool_Durable is the table of TestPool for executors whose queue is in the ledger.
func TestPool_Durable(t *testing.T) { poolTable(t, executor.Config{Durable: true}) }
