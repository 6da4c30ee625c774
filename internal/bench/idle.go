package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/countersignd/countersign/internal/pin"
)

// collecting makes a Go program collect its garbage all the time once it is near
// the memory that it is to need, and give what is free back to the system at
// once, as far as it gets half of a processor for that: what stays is what it
// needs. That is below what it is expected to need in the end.
func collecting(agents, kib int) string {
	return fmt.Sprintf("GOMEMLIMIT=%dKiB", 4096+agents*kib)
}

// How many KiB an agent is expected to need, at least.
const (
	leastGRPC = 34
	leastTLS  = 13
)

// benchIdle measures what an idle agent costs in memory.
func benchIdle(ctx context.Context, s *stage) error {
	n := s.sizes.crowd
	grpc := figure{name: "idle", unit: "KiB/agent"}
	tls := figure{name: "idle/tls", unit: "KiB/agent"}
	for range max(s.sizes.rounds-2, 1) {
		srv, err := s.fresh(ctx, collecting(n, leastGRPC))
		if err != nil {
			return err
		}
		ours, err := s.perAgent(ctx, srv.process, func() error {
			_, err := s.load(ctx, srv.Target, 0, n)
			return err
		})
		if err != nil {
			return err
		}
		s.endAll()
		bare, target, err := s.bare(ctx, small, collecting(n, leastGRPC))
		if err != nil {
			return err
		}
		limit, err := s.perAgent(ctx, bare, func() error {
			_, err := s.load(ctx, target, 0, n)
			return err
		})
		if err != nil {
			return err
		}
		s.endAll()
		connections, err := s.role("bare", collecting(n, leastTLS))
		if err != nil {
			return err
		}
		lowest, err := s.perAgent(ctx, connections, func() error {
			target, err := ask[Target](ctx, connections, "ServeTLS", None{})
			if err != nil {
				return err
			}
			agents, err := s.role("agents")
			if err != nil {
				return err
			}
			return tell(ctx, agents, "ConnectTLS", ConnectArgs{Target: target, Devices: s.devices, Count: n})
		})
		if err != nil {
			return err
		}
		s.endAll()
		grpc.add(ours, limit, n)
		tls.add(ours, lowest, n)
	}
	s.print(&grpc)
	s.print(&tls)
	return nil
}

// settle is how long a server may take to give back what it does not need.
const settle = 4 * time.Second

// perAgent returns by how many KiB a server grows for each agent of the crowd.
func (s *stage) perAgent(ctx context.Context, p *process, connect func() error) (float64, error) {
	before, err := s.settled(ctx, p)
	if err != nil {
		return 0, err
	}
	s.say("connecting %d agents", s.sizes.crowd)
	if err := connect(); err != nil {
		return 0, err
	}
	after, err := s.settled(ctx, p)
	return (after - before) / 1024 / float64(s.sizes.crowd), err
}

// settled returns the memory of a process once it does not shrink any more.
func (s *stage) settled(ctx context.Context, p *process) (float64, error) {
	pause := min(settle, 2*s.sizes.measure)
	last := 0.0
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		now, err := residentMemory(p.pid())
		if err != nil || last > 0 && now > 0.99*last {
			return now, err
		}
		last = now
	}
}

// ServeTLS serves TLS connections with client certificates that carry nothing.
func (b *Bare) ServeTLS(_ None, t *Target) error {
	cert, listener, err := t.listen()
	if err != nil {
		return err
	}
	go func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return // the process ends
			}
			go readTLS(raw, pin.ServerConfig(cert))
		}
	}()
	return nil
}

// readTLS does the handshake on a goroutine that ends with it, and with it the
// stack that it grew, and then waits for what never comes.
func readTLS(raw net.Conn, config *tls.Config) {
	conn := tls.Server(raw, config)
	done := make(chan error, 1)
	go func() { done <- conn.Handshake() }()
	if err := <-done; err == nil {
		conn.Write([]byte{0}) // what a client waits for; it says that the handshake was good
		conn.Read(make([]byte, 1))
	}
	conn.Close()
}

// ConnectTLS connects devices without gRPC.
func (a *Agents) ConnectTLS(args ConnectArgs, _ *None) error {
	devices, err := readDevices(args.Devices, args.First, args.Count)
	if err != nil {
		return err
	}
	a.bare = make([]net.Conn, len(devices))
	return parallel(len(devices), func(i int) error {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: sourceOf(i)}, Timeout: patience}
		conn, err := tls.DialWithDialer(dialer, "tcp4", args.Target.Address, pin.ClientConfig(&devices[i].certificate, args.Target.Pin))
		if err != nil {
			return err
		}
		a.bare[i] = conn
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		return nil
	})
}
