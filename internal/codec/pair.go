package codec

import "sync"

// Pair is what there is to know about the types of an input and a result, looked
// up once. The zero value works; it must not be copied.
type Pair[In, Out any] struct {
	In     Of[In]
	Out    Of[Out]
	Copies bool // values may be handed over as they are

	once sync.Once
}

// Get looks the types up.
func (p *Pair[In, Out]) Get() *Pair[In, Out] {
	p.once.Do(func() {
		p.In, p.Out = For[In](), For[Out]()
		p.Copies = p.In.Copies() && p.Out.Copies()
	})
	return p
}
