package main

import (
	"context"
	"fmt"
	"path/filepath"
)

// A load is agents and applications that call one server.
type load struct {
	agents, applications *process
}

// load connects the given devices of the crowd to a server, and an application.
func (s *stage) load(ctx context.Context, t Target, first, count int) (*load, error) {
	s.copies++
	person := filepath.Join(s.dir, fmt.Sprintf("person%d.sock", s.copies))
	agents, err := s.role("agents")
	if err != nil {
		return nil, err
	}
	if err := tell(ctx, agents, "Connect", ConnectArgs{Target: t, Devices: s.devices, First: first, Count: count, Person: person}); err != nil {
		return nil, err
	}
	applications, err := s.role("applications")
	if err != nil {
		return nil, err
	}
	return &load{agents, applications}, tell(ctx, applications, "Open", OpenArgs{Target: t, Person: person})
}

// cycles plays sign-ins as fast as they go.
func (l *load) cycles(ctx context.Context, args CyclesArgs) (Played, error) {
	return ask[Played](ctx, l.applications, "Cycles", args)
}

// paced plays sign-ins at a rate.
func (l *load) paced(ctx context.Context, args PacedArgs) (Played, error) {
	return ask[Played](ctx, l.applications, "Paced", args)
}

// A pair is the product and its limit, each with a load of its own, which take
// turns.
type pair struct {
	ours  side
	limit side
}

// A side is one of the two.
type side struct {
	server *process
	Target
	*load
}

// pair starts both and connects the given devices to each.
func (s *stage) pair(ctx context.Context, samples func(crowd) Samples, first, count int) (p pair, err error) {
	srv, err := s.fresh(ctx)
	if err != nil {
		return pair{}, err
	}
	bare, target, err := s.bare(ctx, samples)
	if err != nil {
		return pair{}, err
	}
	s.say("connecting %d agents to each of two servers", count)
	p = pair{side{server: srv.process, Target: srv.Target}, side{server: bare, Target: target}}
	for _, side := range []*side{&p.ours, &p.limit} {
		if side.load, err = s.load(ctx, side.Target, first, count); err != nil {
			return pair{}, err
		}
	}
	return p, nil
}
