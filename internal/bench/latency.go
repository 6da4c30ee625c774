package main

import (
	"context"
	"fmt"
)

// latencyAccounts is how many accounts of the crowd are asked in turn. All other
// agents are idle.
const latencyAccounts = 64

// latencyRate is how many sign-ins begin in a second where the machine should
// be nearly idle.
const latencyRate = 20

// benchLatency measures how long it takes from the beginning of a sign-in until a
// device has its prompt, while thousands of others are connected: at rest, and
// at rising rates.
func benchLatency(ctx context.Context, s *stage) error {
	p, err := s.pair(ctx, small, 0, s.sizes.crowd)
	if err != nil {
		return err
	}
	accounts := min(latencyAccounts, s.sizes.crowd/devicesPerAccount)
	measure := func(rate, samples, rounds int) (p50, p99 figure, err error) {
		for range rounds {
			var q50, q99 [2]float64
			n := 0
			for i, side := range []*side{&p.ours, &p.limit} {
				played, err := side.paced(ctx, PacedArgs{Rate: rate, Cycles: samples, Accounts: accounts})
				if err != nil {
					return p50, p99, err
				}
				ms := milliseconds(played.Latency)
				q50[i], q99[i] = percentile(ms, 50), percentile(ms, 99)
				if i == 0 {
					n = len(ms)
				}
			}
			p50.add(q50[0], q50[1], n)
			p99.add(q99[0], q99[1], n)
		}
		p50.unit, p99.unit = "ms", "ms"
		return p50, p99, nil
	}
	p50, p99, err := measure(latencyRate, s.sizes.samples, s.sizes.rounds)
	if err != nil {
		return err
	}
	p50.name, p99.name = "latency/p50", "latency/p99"
	s.print(&p50)
	s.print(&p99)

	chart := newChart("Latency under load", "sign-ins begun in a second", "ms until a device has the prompt")
	for _, rate := range s.sizes.rates {
		p50, p99, err := measure(rate, max(int(float64(rate)*s.sizes.measure.Seconds()), 1), 1)
		if err != nil {
			return err
		}
		p50.name, p99.name = fmt.Sprintf("latency/p50/%d-per-s", rate), fmt.Sprintf("latency/p99/%d-per-s", rate)
		s.print(&p50)
		s.print(&p99)
		chart.point("ours, p99", float64(rate), p99.ours[0])
		chart.point("limit, p99", float64(rate), p99.limit[0])
		chart.point("ours, p50", float64(rate), p50.ours[0])
		chart.point("limit, p50", float64(rate), p50.limit[0])
	}
	return s.draw("latency.svg", chart)
}

// benchFanout measures how long it takes until the last of many devices of one
// account has the prompt.
func benchFanout(ctx context.Context, s *stage) error {
	p, err := s.pair(ctx, fan, s.sizes.accounts*devicesPerAccount, s.sizes.fanDevices)
	if err != nil {
		return err
	}
	f := figure{name: fmt.Sprintf("fanout/%d", s.sizes.fanDevices), unit: "ms"}
	for range s.sizes.rounds {
		args := CyclesArgs{Accounts: 1, Account: fanAccount, Cycles: s.sizes.fanouts}
		ours, err := p.ours.cycles(ctx, args)
		if err != nil {
			return err
		}
		limit, err := p.limit.cycles(ctx, args)
		if err != nil {
			return err
		}
		f.add(median(milliseconds(ours.Last)), median(milliseconds(limit.Last)), ours.Cycles)
	}
	s.print(&f)
	return nil
}
