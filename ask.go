package distgear

import (
	"context"
	"errors"
	"fmt"

	"github.com/distgear/distgear/internal/session"
)

// askHub asks the hub what changes nothing. It serves Room.Ask.
func (n *Node) askHub(ctx context.Context, kind string, in []byte) ([]byte, error) {
	b, err := n.asker.Ask(ctx, kind, in)
	switch {
	case errors.Is(err, session.ErrNoHub):
		err = fmt.Errorf("%w: %w", ErrNoNode, err)
	case errors.Is(err, session.ErrClosed):
		err = ErrLeft
	}
	return b, err
}
