// Mandelbrot draws the Mandelbrot set into a PNG file, tile by tile, as tiles come in from
// whoever computes them.
//
//	mandelbrot                           one process: all of its processors
//	DISTGEAR_SERVE=127.0.0.1:4222 mandelbrot -width 12000
//	                                     one process, which others may join while it runs
//
//	distgear hub &                       many processes, here or elsewhere
//	export DISTGEAR_HUB=nats://127.0.0.1:4222
//	mandelbrot -work &                   as many of these as you like, at any time
//	mandelbrot
//
// The file is the same, byte for byte. On a terminal a bar shows how far it is.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/distgear/distgear"
	"github.com/distgear/distgear/executor"
)

const limit = 1000 // steps after which a point counts as in the set

// tile is a part of the picture: X, Y is its corner.
type tile struct{ X, Y, Width, Height int }

// task is a tile, and the size of the whole picture.
type task struct {
	tile

	OfWidth, OfHeight int
}

// drawn is a tile with the colour of each of its points. Results come in any order: each says where it belongs.
type drawn struct {
	tile

	Points []uint8
}

var compute = &distgear.Action[task, drawn]{Name: "compute-tile", Idempotent: true,
	Do: func(_ context.Context, t task) (drawn, error) {
		d := drawn{t.tile, make([]uint8, 0, t.Width*t.Height)}
		for y := t.Y; y < t.Y+t.Height; y++ {
			for x := t.X; x < t.X+t.Width; x++ {
				d.Points = append(d.Points, point(float64(3*x)/float64(t.OfWidth)-2.25, float64(2*y)/float64(t.OfHeight)-1))
			}
		}
		return d, nil
	}}

func main() {
	work := flag.Bool("work", false, "only compute for others, until interrupted")
	file := flag.String("o", "mandelbrot.png", "the file that is written")
	width := flag.Int("width", 1200, "of the picture; its height is two thirds of it")
	side := flag.Int("tile", 64, "width and height of a tile, up to 500")
	flag.Parse()
	if *side < 1 || *side > 500 || *width < 3 || *width > 50_000 {
		log.Fatal("want a -tile of 1 to 500 and a -width of 3 to 50000")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *work, *file, *width, *side)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, work bool, file string, width, side int) (err error) {
	n, err := distgear.Join(ctx, distgear.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Leave(context.WithoutCancel(ctx))) }()
	ex := executor.New(n, "mandelbrot")
	if work {
		fmt.Println("works as", n.Name(), "until it is interrupted")
		return ex.Work(ctx, 0, compute) // 0: as many tasks at once as there are processors
	}

	working, stop := context.WithCancel(ctx)
	worked := make(chan error, 1) // one answer
	go func() { worked <- ex.Work(working, 0, compute) }()
	picture, err := draw(ctx, ex, width, width*2/3, side)
	stop()
	if err = errors.Join(err, <-worked); err != nil {
		return err
	}
	fmt.Printf("%d x %d points, %d of them in the set\n", width, width*2/3, inSet(picture))
	return write(file, picture)
}

// draw computes the tiles and draws each when it comes.
func draw(ctx context.Context, ex *executor.Executor, width, height, side int) (*image.Paletted, error) {
	picture := image.NewPaletted(image.Rect(0, 0, width, height), colours())
	tasks := tiles(width, height, side)
	for d, err := range executor.Map(ctx, ex, compute, slices.Values(tasks), executor.Bar{Name: "tiles", Total: len(tasks)}) {
		if err != nil {
			return nil, err
		}
		for y := range d.Height {
			copy(picture.Pix[picture.PixOffset(d.X, d.Y+y):], d.Points[y*d.Width:(y+1)*d.Width])
		}
	}
	return picture, nil
}

func tiles(width, height, side int) (all []task) {
	for y := 0; y < height; y += side {
		for x := 0; x < width; x += side {
			all = append(all, task{tile{x, y, min(side, width-x), min(side, height-y)}, width, height})
		}
	}
	return all
}

// point is the colour of a point: 0 if it is in the set, else by how fast it goes away. The conversions
// keep processors that can multiply and add in one step from doing so: all must get the same.
func point(a, b float64) uint8 {
	x, y := 0.0, 0.0
	for i := range limit {
		xx, yy := float64(x*x), float64(y*y)
		if xx+yy > 4 {
			return uint8(1 + i%255)
		}
		x, y = xx-yy+a, float64(2*x*y)+b
	}
	return 0
}

// colours are black for the set, and 255 that go from blue over white to brown and back.
func colours() color.Palette {
	p := color.Palette{color.RGBA{A: 255}}
	for i := range 255 {
		up := uint8(min(i*4, 255, (254-i)*4))
		p = append(p, color.RGBA{R: up, G: up / 2 * 2 / 3 * 2, B: 255 - uint8(i), A: 255})
	}
	return p
}

func inSet(picture *image.Paletted) (n int) {
	for _, c := range picture.Pix {
		if c == 0 {
			n++
		}
	}
	return n
}

func write(file string, picture image.Image) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	b := bufio.NewWriter(f)
	return errors.Join(png.Encode(b, picture), b.Flush(), f.Close())
}
