package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// startGoal is how many seconds a start may take. There is no limit to measure.
const startGoal = 2

// benchGrowth measures what a sign-in costs when there are more and more
// accounts, how long the server takes to start then, and how large the file is.
func benchGrowth(ctx context.Context, s *stage) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	n := s.sizes.growFlight
	var sides []side
	var starts [][2]float64
	var sizes []float64
	var before string
	empty, err := fileSize(database(s.home))
	if err != nil {
		return err
	}
	for i, accounts := range s.sizes.growth {
		data, err := s.grown(ctx, before, i)
		if err != nil {
			return err
		}
		before = data
		size, err := fileSize(database(data))
		if err != nil {
			return err
		}
		sizes = append(sizes, max(size-empty, 1)/1024/float64(accounts)) // few of them fit into what is set aside
		start, d, err := s.startTimes(ctx, data, n)
		if err != nil {
			return err
		}
		starts, sides = append(starts, start), append(sides, d)
	}
	first := s.sizes.growth[0]
	cost, rate := make([]figure, len(sides)), make([]figure, len(sides))
	for range s.sizes.rounds {
		var turns []turn
		for _, d := range sides {
			t, err := d.run(ctx, CyclesArgs{Accounts: n, For: s.sizes.measure})
			if err != nil {
				return err
			}
			turns = append(turns, t)
		}
		for i, t := range turns {
			cost[i].add(1000/t.perCPU(), 1000/turns[0].perCPU(), t.Cycles)
			rate[i].add(t.rate(), turns[0].rate(), t.Cycles)
		}
	}
	chart := newChart("Growth", "accounts", "as many times as with the fewest accounts")
	for i, accounts := range s.sizes.growth {
		check := figure{name: fmt.Sprintf("growth/start-unclean/%d", accounts), unit: "s"}
		check.add(starts[i][0], startGoal, 1)
		start := figure{name: fmt.Sprintf("growth/start/%d", accounts), unit: "s"}
		start.add(starts[i][1], startGoal, 1)
		size := figure{name: fmt.Sprintf("growth/file/%d", accounts), unit: "KiB/account"}
		size.add(sizes[i], sizes[0], accounts)
		if i > 0 {
			cost[i].name, cost[i].unit = fmt.Sprintf("growth/cost/%d", accounts), "cpu-ms/sign-in"
			rate[i].name, rate[i].unit = fmt.Sprintf("growth/rate/%d", accounts), "sign-ins/s"
			s.print(&cost[i])
			s.print(&rate[i])
			s.print(&size)
		}
		s.print(&start)
		s.print(&check)
		chart.point("cost of a sign-in", float64(accounts), median(cost[i].ours)/median(cost[0].ours))
		chart.point("time to start", float64(accounts), starts[i][1]/starts[0][1])
		chart.point("… after a crash", float64(accounts), starts[i][0]/starts[0][0])
		chart.point("accounts", float64(accounts), float64(accounts)/float64(first))
	}
	return s.draw("growth.svg", chart)
}

// startTimes starts a server on a data directory that has grown, which reads all
// of the database, stops it, starts it again, which needs not, and connects those
// who sign in. It returns how many seconds the two starts took.
func (s *stage) startTimes(ctx context.Context, data string, accounts int) (took [2]float64, d side, err error) {
	var srv *server
	for i := range took {
		if srv != nil {
			srv.conn.Close()
			s.stop(srv.process)
		}
		began := time.Now()
		if srv, err = s.serve(ctx, data); err != nil {
			return took, side{}, err
		}
		took[i] = time.Since(began).Seconds()
	}
	l, err := s.load(ctx, srv.Target, 0, accounts*devicesPerAccount)
	return took, side{server: srv.process, Target: srv.Target, load: l}, err
}

// grown returns a data directory with as many accounts as the i-th size says,
// made of a copy of that of the size before, if there is one.
func (s *stage) grown(ctx context.Context, before string, i int) (string, error) {
	have := 0
	data, err := s.copyHome()
	if err != nil {
		return "", err
	}
	if before != "" {
		have = s.sizes.growth[i-1]
		if err := os.Remove(database(data)); err != nil {
			return "", err
		}
		if err := copyFile(database(data), filepath.Join(before, "seed.db")); err != nil {
			return "", err
		}
	}
	p, err := s.role("store")
	if err != nil {
		return "", err
	}
	s.say("adding accounts, up to %d", s.sizes.growth[i])
	if err := tell(ctx, p, "Grow", GrowArgs{Path: database(data), First: have, Accounts: s.sizes.growth[i] - have}); err != nil {
		return "", err
	}
	if i+1 == len(s.sizes.growth) {
		return data, nil
	}
	// The server that runs on it changes it, so the next size begins with a copy.
	return data, copyFile(filepath.Join(data, "seed.db"), database(data))
}

// database returns where a server keeps its database.
func database(data string) string { return filepath.Join(data, "countersign.db") }

func fileSize(path string) (float64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return float64(info.Size()), nil
}
