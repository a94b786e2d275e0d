package hub_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/distgear/distgear/hub"
)

func ExampleStart() {
	h, err := hub.Start(context.Background(), hub.Config{Listen: "127.0.0.1:0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()
	fmt.Println(strings.HasPrefix(h.URL(), "nats://127.0.0.1:"))
	// Output: true
}
