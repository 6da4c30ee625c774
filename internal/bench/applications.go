package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// Applications begin sign-ins and hand in the codes that the agents tell them.
type Applications struct {
	target  Target
	clients []pb.SignInServiceClient

	mu      sync.Mutex
	waiting map[string]chan *news // by sign-in
	early   map[string]*news      // of sign-ins whose answer is not there yet
	known   map[string]string     // by account, what makes its requester known
	samples Samples
}

// connections is how many connections the applications have: each bears 64
// calls at a time.
const connections = 16

// OpenArgs say where the server is, and the person.
type OpenArgs struct {
	Target Target
	Person string
}

// Open connects to the server and to the agents.
func (a *Applications) Open(args OpenArgs, _ *None) error {
	a.target, a.waiting, a.early, a.known = args.Target, map[string]chan *news{}, map[string]*news{}, map[string]string{}
	for i := range connections {
		conn, err := dial(args.Target, 60_000+i, nil)
		if err != nil {
			return err
		}
		a.clients = append(a.clients, pb.NewSignInServiceClient(conn))
	}
	if args.Person == "" {
		return nil
	}
	conn, err := net.Dial("unix", args.Person)
	if err != nil {
		return err
	}
	go a.listen(conn)
	return nil
}

// listen hears what the person reads on the devices, until the agents end.
func (a *Applications) listen(conn net.Conn) {
	for decoder := gob.NewDecoder(conn); ; {
		n := new(news)
		if err := decoder.Decode(n); err != nil {
			return
		}
		a.mu.Lock()
		if c := a.waiting[n.SignIn]; c != nil {
			c <- n
			delete(a.waiting, n.SignIn)
		} else {
			a.early[n.SignIn] = n
		}
		a.mu.Unlock()
	}
}

// news waits for what the agents tell of a sign-in.
func (a *Applications) news(ctx context.Context, signIn string) (*news, error) {
	c := make(chan *news, 1)
	a.mu.Lock()
	if n := a.early[signIn]; n != nil {
		delete(a.early, signIn)
		c <- n
	} else {
		a.waiting[signIn] = c
	}
	a.mu.Unlock()
	select {
	case n := <-c:
		if n.Error != "" {
			return nil, fmt.Errorf("allowing: %s", n.Error)
		}
		return n, nil
	case <-ctx.Done():
		return nil, errors.New("no device has answered the prompt in time")
	}
}

// cycle plays one sign-in, and returns when it began and what the devices told.
func (a *Applications) cycle(account string, client pb.SignInServiceClient) (began time.Time, n *news, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a.mu.Lock()
	known := a.known[account]
	a.mu.Unlock()
	began = time.Now()
	begun, err := client.BeginSignIn(a.bearing(ctx), beginning(account, known))
	if err != nil {
		return began, nil, fmt.Errorf("beginning: %w", err)
	}
	id := begun.GetSignIn().GetId()
	if n, err = a.news(ctx, id); err != nil {
		return began, nil, err
	}
	verified, err := client.VerifySignIn(a.bearing(ctx), &pb.VerifySignInRequest{SignInId: id, Code: n.Code})
	if err != nil {
		return began, nil, fmt.Errorf("verifying: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[account] = verified.GetRequesterToken()
	if a.samples.Begin == nil || known != "" {
		a.samples.Begin, _ = proto.Marshal(begun) // what was just read can be written
		a.samples.Verify, _ = proto.Marshal(verified)
	}
	return began, n, nil
}

// bearing adds the application's token to a call.
func (a *Applications) bearing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+a.target.Token)
}

func beginning(account, known string) *pb.BeginSignInRequest {
	return &pb.BeginSignInRequest{Account: account, Requester: &pb.Requester{
		Address: requester.Address, Place: requester.Place, Device: requester.Device, Program: requester.Program, Token: known,
	}}
}

// Samples returns messages of one sign-in.
func (a *Applications) Samples(_ None, s *Samples) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	*s = a.samples
	return nil
}

// CyclesArgs ask for sign-ins, one after the other in each of so many accounts:
// for a time or, if that is zero, a number in each account.
type CyclesArgs struct {
	Accounts int
	Account  string // the only one; empty for the first Accounts of the crowd
	For      time.Duration
	Cycles   int

	// Flood is how many wrong codes are in flight meanwhile, each of an account
	// of its own: those of the crowd from FloodFirst on.
	Flood, FloodFirst int
}

// Played is what sign-ins came to.
type Played struct {
	Cycles  int
	Took    time.Duration
	Latency []time.Duration // from the beginning until each device had the prompt
	Last    []time.Duration // likewise, the last device of each sign-in
	Wrong   int             // codes of the flood that were refused
}

// Cycles plays sign-ins as fast as they go.
func (a *Applications) Cycles(args CyclesArgs, p *Played) error {
	var mu sync.Mutex
	began := time.Now()
	halt := make(chan struct{})
	var flood sync.WaitGroup
	var wrong atomic.Int64
	var flooded error
	flood.Go(func() { flooded = a.flood(args, halt, &wrong) })
	var all sync.WaitGroup
	errs := make([]error, args.Accounts)
	for i := range args.Accounts {
		account, client := args.Account, a.clients[i%len(a.clients)]
		if account == "" {
			account = accountName(i)
		}
		all.Go(func() {
			for n := 0; args.For > 0 && time.Since(began) < args.For || n < args.Cycles; n++ {
				start, told, err := a.cycle(account, client)
				if err != nil {
					errs[i] = err
					return
				}
				mu.Lock()
				p.add(start, told)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	p.Took = time.Since(began)
	close(halt)
	flood.Wait()
	p.Wrong = int(wrong.Load())
	return errors.Join(append(errs, flooded)...)
}

func (p *Played) add(began time.Time, n *news) {
	p.Cycles++
	var last int64
	for _, at := range n.Received {
		p.Latency = append(p.Latency, time.Duration(at-began.UnixNano()))
		last = max(last, at)
	}
	p.Last = append(p.Last, time.Duration(last-began.UnixNano()))
}

// PacedArgs ask for sign-ins at a rate, whether or not those before are over.
type PacedArgs struct {
	Rate     int // in a second
	Cycles   int
	Accounts int // the first ones of the crowd, in turn
}

// Paced plays sign-ins at a rate.
func (a *Applications) Paced(args PacedArgs, p *Played) error {
	var mu sync.Mutex
	var all sync.WaitGroup
	var failed error
	began := time.Now()
	for i := range args.Cycles {
		time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(args.Rate))))
		all.Go(func() {
			start, n, err := a.cycle(accountName(i%args.Accounts), a.clients[i%len(a.clients)])
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			p.add(start, n)
		})
	}
	all.Wait()
	p.Took = time.Since(began)
	return failed
}

// flood hands in wrong codes until halt is closed, so many at a time, each for a
// sign-in of another account that is over: that is what somebody who guesses
// has, once the few tries of a sign-in are used up.
func (a *Applications) flood(args CyclesArgs, halt <-chan struct{}, wrong *atomic.Int64) error {
	return parallel(args.Flood, func(i int) error {
		ctx, client := a.bearing(context.Background()), a.clients[i%len(a.clients)]
		account := accountName(args.FloodFirst + i)
		begun, err := client.BeginSignIn(ctx, beginning(account, ""))
		if err != nil {
			return fmt.Errorf("beginning one to guess at: %w", err)
		}
		for {
			select {
			case <-halt:
				return nil
			default:
			}
			_, err := client.VerifySignIn(ctx, &pb.VerifySignInRequest{SignInId: begun.GetSignIn().GetId(), Code: "000000"}, grpc.WaitForReady(true))
			if err == nil {
				return errors.New("a wrong code was taken")
			}
			wrong.Add(1)
		}
	})
}
