package geartest

import (
	"context"
	"log/slog"
	"os"

	"github.com/distgear/distgear"
)

// HubRole is a role for Main: a process that hosts a hub on a port of its own, until it is stopped. Ready is the URL that nodes join it by (DISTGEAR_HUB).
// The environment may say more (DISTGEAR_DIR, DISTGEAR_TTL …).
func HubRole(ctx context.Context, _ []string) error {
	n, err := distgear.Join(ctx, distgear.Config{Name: "hub", Serve: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	Ready(n.HubURL())
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return n.Leave(ctx)
}
