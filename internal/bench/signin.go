package main

import (
	"context"
	"fmt"
	"time"
)

// benchSignIn measures whole sign-ins in a second, and what one costs the server.
func benchSignIn(ctx context.Context, s *stage) error {
	most := 0
	for _, n := range s.sizes.inFlight {
		most = max(most, n)
	}
	p, err := s.pair(ctx, small, 0, most*devicesPerAccount)
	if err != nil {
		return err
	}
	for _, n := range s.sizes.inFlight {
		rate := figure{name: fmt.Sprintf("signin/%d", n), unit: "sign-ins/s"}
		cost := figure{name: fmt.Sprintf("signin/%d/server-cpu", n), unit: "sign-ins/cpu-s"}
		for range s.sizes.rounds {
			ours, err := p.ours.run(ctx, CyclesArgs{Accounts: n, For: s.sizes.measure})
			if err != nil {
				return fmt.Errorf("ours: %w", err)
			}
			limit, err := p.limit.run(ctx, CyclesArgs{Accounts: n, For: s.sizes.measure})
			if err != nil {
				return fmt.Errorf("the limit: %w", err)
			}
			rate.add(ours.rate(), limit.rate(), ours.Cycles)
			cost.add(ours.perCPU(), limit.perCPU(), ours.Cycles)
		}
		s.print(&rate)
		s.print(&cost)
	}
	return nil
}

// A turn is what sign-ins came to, and what they cost the server.
type turn struct {
	Played
	cpu time.Duration // of the server
}

func (r turn) rate() float64 { return float64(r.Cycles) / r.Took.Seconds() }

// perCPU returns how many sign-ins a second of the server's processor time is
// good for.
func (r turn) perCPU() float64 { return float64(r.Cycles) / max(r.cpu, clockTick).Seconds() }

// run plays sign-ins as fast as they go and looks at the server's clock.
func (d *side) run(ctx context.Context, args CyclesArgs) (r turn, err error) {
	before, err := processorTime(d.server.pid())
	if err != nil {
		return turn{}, err
	}
	if r.Played, err = d.cycles(ctx, args); err != nil {
		return turn{}, err
	}
	after, err := processorTime(d.server.pid())
	r.cpu = after - before
	return r, err
}
