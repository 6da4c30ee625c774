package server

import (
	"runtime/debug"
	"sync"
)

// A crew are goroutines that do short work for others.
//
// Reading the store and writing to a stream takes a deep stack, and a goroutine
// keeps the most part of the deepest one that it had. Thousands of streams wait
// nearly always, so they have it done by a crew and keep a shallow one. A
// goroutine that begins has to make its stack deep first, by copying it again and
// again, so a few of the crew wait for more.
type crew struct {
	work   chan func()   // to those that wait
	places chan struct{} // taken by those that wait
	ended  chan struct{}
	all    sync.WaitGroup
}

// mostWaiting is how many of a crew wait. Their stacks, of some 32 KiB, are 2 MiB.
const mostWaiting = 64

func newCrew() *crew {
	return &crew{work: make(chan func()), places: make(chan struct{}, mostWaiting), ended: make(chan struct{})}
}

// do has work done, and does not wait for it.
func (c *crew) do(work func()) {
	select {
	case c.work <- work:
	default:
		c.all.Go(func() { c.serve(work) })
	}
}

func (c *crew) serve(work func()) {
	for {
		work()
		select {
		case c.places <- struct{}{}:
		default:
			return // enough are waiting
		}
		select {
		case work = <-c.work:
			<-c.places
		case <-c.ended:
			return
		}
	}
}

// call has work done and returns what it returned, or that it panicked.
func (c *crew) call(work func() error) error {
	done := make(chan error, 1)
	c.do(func() {
		defer func() {
			if p := recover(); p != nil {
				done <- &panicError{p, debug.Stack()}
			}
		}()
		done <- work()
	})
	return <-done
}

// end lets those that wait go, and waits for the others. Nothing is to be done
// afterwards.
func (c *crew) end() {
	close(c.ended)
	c.all.Wait()
}
