package server

import (
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// A crew are goroutines that do short work for others.
//
// Reading the store and writing to a stream takes a deep stack, and a goroutine
// keeps the most part of the deepest one that it had. Thousands of streams wait
// nearly always, so they have it done by a crew and keep a shallow one. A
// goroutine that begins, as one does for each call, has to make its stack deep
// first, by copying it again and again, so a few of the crew wait for more.
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

// An errand is work of a crew that somebody waits for.
type errand struct {
	done chan error // what came of it; and before that, perhaps, that it takes too long
}

// call has work done and returns what it returned, or that it panicked; or that a
// message of it was not taken in time, while it still goes on.
func (c *crew) call(work func(errand) error) error {
	e := errand{make(chan error, 2)}
	c.do(func() {
		defer func() {
			if p := recover(); p != nil {
				e.done <- &panicError{p, debug.Stack()}
			}
		}()
		e.done <- work(e)
	})
	return <-e.done
}

// send sends m. If there is no room for it in time, whoever waits for the errand
// goes on with errSlowReader: a Send that finds no room waits until the stream
// ends, and only the return of the handler ends it.
func (e errand) send(stream grpc.ServerStream, m proto.Message) error {
	timer := time.AfterFunc(sendTimeout, func() { e.done <- errSlowReader })
	defer timer.Stop()
	if err := stream.SendMsg(m); err != nil {
		return errCallerCancelled // a Send fails only when the stream is gone
	}
	return nil
}

// end lets those that wait go, and waits for the others. Nothing is to be done
// afterwards.
func (c *crew) end() {
	close(c.ended)
	c.all.Wait()
}
