// Package topics is a topic: who subscribes hears what is published from then
// on, in one order.
//
//	var t topics.Topic[[]byte]
//	t.Subscribe(&out, who)
//	t.Publish(&out, other, []byte("hello"))
//
// # Guarantees
//
// Messages are numbered from 1, without a gap, and every subscriber hears
// every message from its subscription to its end, in that order.
//
// # Failures
//
// Nothing is retained: a message without subscribers is heard by nobody, and
// who subscribes later does not hear it. A topic that was dropped while it was
// idle goes on behind the number that New is given, so for publishers numbers
// grow but may have gaps.
//
// A Topic is not safe for concurrent use.
package topics

import "github.com/distgear/distgear/internal/machine"

// Topic is the state of one topic. The zero value has no subscribers and begins
// with message 1.
type Topic[V any] struct {
	last uint64        // number of the last message
	subs []machine.Who // in order of subscription
}

// New makes a topic whose next message has the number after last. Give it the
// highest Last of topics that were dropped or destroyed, so that numbers of one
// name never go back.
func New[V any](last uint64) *Topic[V] { return &Topic[V]{last: last} }

// Publish tells all subscribers v, the publisher too if it is one.
//
//   - OK to who, first: Num is the message's number, Aux how many are told.
//   - Message to each subscriber, in order of subscription: Num is the number,
//     Aux the publisher's session, Val is v. All effects share v.
func (x *Topic[V]) Publish(out *machine.Out[V], who machine.Who, v V) {
	x.last++
	out.Add(machine.Effect[V]{To: who, Code: machine.OK, Num: x.last, Aux: uint64(len(x.subs))})
	for _, s := range x.subs {
		out.Add(machine.Effect[V]{To: s, Code: machine.Message, Num: x.last, Aux: uint64(who.Session), Val: v})
	}
}

// Subscribe lets who hear what is published from now on. A session may have
// several subscriptions; each request is one.
//
//   - OK to who: Num is the number of the last message that it does not hear.
//     A second Subscribe of the same request changes nothing and says the same.
func (x *Topic[V]) Subscribe(out *machine.Out[V], who machine.Who) {
	if x.find(who) < 0 {
		x.subs = append(x.subs, who)
	}
	out.Tell(who, machine.OK, x.last)
}

// Unsubscribe ends the subscription of who: who is the one that subscribed.
//
//   - OK to who: Num is the number of the last message that it hears; none
//     follows this effect.
//   - Stale to who: there is no such subscription.
func (x *Topic[V]) Unsubscribe(out *machine.Out[V], who machine.Who) {
	i := x.find(who)
	if i < 0 {
		out.Tell(who, machine.Stale, x.last)
		return
	}
	x.subs = append(x.subs[:i], x.subs[i+1:]...)
	out.Tell(who, machine.OK, x.last)
}

// Expire ends a session: its subscriptions are gone. Nobody is told.
func (x *Topic[V]) Expire(_ *machine.Out[V], s machine.Session) {
	kept := x.subs[:0]
	for _, w := range x.subs {
		if w.Session != s {
			kept = append(kept, w)
		}
	}
	x.subs = kept
}

// Destroy ends the topic: Gone to each subscriber, in order; Num is the number
// of the last message. The number goes on in x.
func (x *Topic[V]) Destroy(out *machine.Out[V]) {
	for _, w := range x.subs {
		out.Tell(w, machine.Gone, x.last)
	}
	x.subs = nil
}

// Idle reports whether nobody subscribes. What follows a dropped topic is made
// by New with its Last.
func (x *Topic[V]) Idle() bool { return len(x.subs) == 0 }

// Last is the number of the last message.
func (x *Topic[V]) Last() uint64 { return x.last }

// Subscribers is how many there are.
func (x *Topic[V]) Subscribers() int { return len(x.subs) }

func (x *Topic[V]) find(who machine.Who) int {
	for i, w := range x.subs {
		if w == who {
			return i
		}
	}
	return -1
}
