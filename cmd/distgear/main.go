// Command distgear shows DistGear (distgear demo), starts a hub, and operates a
// cluster over its gateway. `distgear --help` lists its commands and exit codes.
package main

import (
	"os"

	"github.com/distgear/distgear/internal/cli"
)

func main() {
	os.Exit(int(cli.Main(os.Args[1:])))
}
