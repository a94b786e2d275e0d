package distgear

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distgear/distgear/internal/link"
	"github.com/distgear/distgear/internal/wire"
)

// hubAnswers is how long a hub that is asked has for its answer: one that took
// over from another is there by then.
const hubAnswers = 5 * time.Second

var errNoHub = errors.New("no answer in time")

// askHub asks the hub something that changes nothing. It serves Room.Ask.
func (n *Node) askHub(ctx context.Context, kind string, in []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, hubAnswers, errNoHub)
	defer cancel()
	rep, err := n.end.Do(ctx, link.Hub, &wire.Command{Kind: kind, Input: in}, hubAnswers)
	switch {
	case errors.Is(err, errNoHub), err == nil && rep.Outcome == wire.Unknown:
		return nil, fmt.Errorf("%w: no hub answers (does one run? of three, do two?)", ErrNoNode)
	case errors.Is(err, link.ErrClosed):
		return nil, ErrLeft
	case err != nil:
		return nil, err
	case rep.Outcome == wire.OK:
		return rep.Payload, nil
	case rep.Error != nil:
		return nil, fmt.Errorf("%w: the hub: %s", ErrNoNode, rep.Error.Message)
	}
	return nil, fmt.Errorf("%w: the hub refused", ErrNoNode)
}
