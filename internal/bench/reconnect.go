package main

import (
	"context"
	"errors"
	"time"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// benchReconnect measures what it costs the server when many agents lose their
// connections at once and come back.
func benchReconnect(ctx context.Context, s *stage) error {
	p, err := s.pair(ctx, small, 0, s.sizes.reconnect)
	if err != nil {
		return err
	}
	f := figure{name: "reconnect", unit: "streams/cpu-s"}
	wall := figure{name: "reconnect/wall", unit: "streams/s"}
	for range s.sizes.rounds {
		var perCPU, perSecond [2]float64
		for i, side := range []*side{&p.ours, &p.limit} {
			before, err := processorTime(side.server.pid())
			if err != nil {
				return err
			}
			began := time.Now()
			if err := tell(ctx, side.agents, "Cut", None{}); err != nil {
				return err
			}
			if err := tell(ctx, side.agents, "Restore", None{}); err != nil {
				return err
			}
			after, err := processorTime(side.server.pid())
			if err != nil {
				return err
			}
			perCPU[i] = float64(s.sizes.reconnect) / max(after-before, clockTick).Seconds()
			perSecond[i] = float64(s.sizes.reconnect) / time.Since(began).Seconds()
		}
		f.add(perCPU[0], perCPU[1], s.sizes.reconnect)
		wall.add(perSecond[0], perSecond[1], s.sizes.reconnect)
	}
	s.print(&f)
	s.print(&wall)
	return nil
}

// revokeGoal is what the last percent of revocations may take, in milliseconds.
// There is no limit to measure.
const revokeGoal = 100

// revokePause keeps the revocations apart, which are one person's.
const revokePause = 20 * time.Millisecond

// benchRevoke measures how long it takes from the call of an administrator until
// the stream of the device has ended at the device.
func benchRevoke(ctx context.Context, s *stage) error {
	srv, err := s.fresh(ctx)
	if err != nil {
		return err
	}
	s.say("connecting %d agents", s.sizes.crowd)
	l, err := s.load(ctx, srv.Target, 0, s.sizes.crowd)
	if err != nil {
		return err
	}
	devices, err := readDevices(s.devices, 0, s.sizes.revoke)
	if err != nil {
		return err
	}
	called := map[string]int64{}
	for _, d := range devices {
		called[d.ID] = time.Now().UnixNano()
		if _, err := srv.admin.RevokeAccountDevice(ctx, &pb.RevokeAccountDeviceRequest{Device: d.ID}); err != nil {
			return err
		}
		time.Sleep(revokePause)
	}
	var took []time.Duration
	for deadline := time.Now().Add(patience); len(took) < len(devices); time.Sleep(revokePause) {
		lost, err := ask[[]Lost](ctx, l.agents, "Lost", None{})
		if err != nil {
			return err
		}
		took = took[:0]
		for _, x := range lost {
			if at, ok := called[x.Device]; ok {
				took = append(took, time.Duration(x.At-at))
			}
		}
		if time.Now().After(deadline) {
			return errors.New("the stream of a revoked device has not ended")
		}
	}
	p50, p99 := figure{name: "revoke/p50", unit: "ms"}, figure{name: "revoke/p99", unit: "ms"}
	p50.add(percentile(milliseconds(took), 50), revokeGoal, len(took))
	p99.add(percentile(milliseconds(took), 99), revokeGoal, len(took))
	s.print(&p50)
	s.print(&p99)
	return nil
}

// benchFlood measures how much honest sign-ins suffer from somebody who hands in
// wrong codes.
func benchFlood(ctx context.Context, s *stage) error {
	p, err := s.fresh(ctx)
	if err != nil {
		return err
	}
	n := s.sizes.growFlight
	l, err := s.load(ctx, p.Target, 0, n*devicesPerAccount)
	if err != nil {
		return err
	}
	honest := figure{name: "verify-flood", unit: "sign-ins/s"}
	wrong := figure{name: "verify-flood/refused", unit: "codes/s"}
	for range s.sizes.rounds {
		alone, err := l.cycles(ctx, CyclesArgs{Accounts: n, For: s.sizes.measure})
		if err != nil {
			return err
		}
		flooded, err := l.cycles(ctx, CyclesArgs{Accounts: n, For: s.sizes.measure, Flood: s.sizes.flood, FloodFirst: n})
		if err != nil {
			return err
		}
		honest.add(float64(flooded.Cycles)/flooded.Took.Seconds(), float64(alone.Cycles)/alone.Took.Seconds(), flooded.Cycles)
		wrong.add(float64(flooded.Wrong)/flooded.Took.Seconds(), float64(flooded.Cycles)/flooded.Took.Seconds(), flooded.Wrong)
	}
	s.print(&honest)
	s.print(&wrong)
	return nil
}
