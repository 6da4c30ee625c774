package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// Agents are trusted devices, each with a connection and a stream of its own.
// When all devices of an account that are here were sent a prompt, the last one
// of them allows it, and the code is handed to the person (see [news]).
type Agents struct {
	target  Target
	agents  []*agent
	person  net.Listener
	persons sync.WaitGroup

	mu      sync.Mutex
	prompts map[string]*news // by sign-in, those that not all have seen
	of      map[string]int   // agents of an account
	told    *gob.Encoder     // to the applications; nil before they have connected
	samples Samples
	lost    []Lost     // streams that ended
	bare    []net.Conn // of ConnectTLS
}

// An agent is one device that watches.
type agent struct {
	*Device
	source int
	conn   *grpc.ClientConn
	client pb.DeviceServiceClient
	cancel context.CancelFunc
	done   chan struct{} // closed when it does not watch any more
}

// news are what the agents tell the applications of a sign-in, over a socket,
// in place of the person who reads a code on one device and types it on
// another. Moments are nanoseconds since 1970: both are on one machine.
type news struct {
	SignIn   string
	Received []int64 // when each device had the prompt
	Code     string  // empty if it was not allowed
	Error    string  // why not
}

// Samples are messages of one sign-in, as they went over the wire.
type Samples struct {
	Prompt, Code, Gone, Decide, Begin, Verify []byte
}

// Lost is a stream that ended.
type Lost struct {
	Device string
	At     int64 // nanoseconds since 1970
}

// ConnectArgs say which devices connect where.
type ConnectArgs struct {
	Target       Target
	Devices      string // the file
	First, Count int
	Person       string // path of the socket that applications hear news from
}

// Connect connects the agents, and returns when each has the first message of
// its stream.
func (a *Agents) Connect(args ConnectArgs, _ *None) error {
	devices, err := readDevices(args.Devices, args.First, args.Count)
	if err != nil {
		return err
	}
	a.target, a.prompts, a.of = args.Target, map[string]*news{}, map[string]int{}
	a.agents = make([]*agent, len(devices))
	for i, d := range devices {
		a.agents[i] = &agent{Device: d, source: args.First + i}
		a.of[d.Account]++
	}
	if a.person, err = net.Listen("unix", args.Person); err != nil {
		return err
	}
	a.persons.Go(func() {
		conn, err := a.person.Accept()
		if err != nil {
			return // the process ends
		}
		a.mu.Lock()
		a.told = gob.NewEncoder(conn)
		a.mu.Unlock()
	})
	return a.connectAll()
}

func (a *Agents) connectAll() error {
	return parallel(len(a.agents), func(i int) error { return a.watch(a.agents[i]) })
}

// watch connects an agent and waits for the first message.
func (a *Agents) watch(g *agent) (err error) {
	if g.conn, err = dial(a.target, g.source, &g.certificate); err != nil {
		return err
	}
	g.client = pb.NewDeviceServiceClient(g.conn)
	var ctx context.Context
	ctx, g.cancel = context.WithCancel(context.Background())
	first := time.AfterFunc(patience, g.cancel)
	stream, err := g.client.WatchPrompts(ctx, &pb.WatchPromptsRequest{})
	if err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return fmt.Errorf("watching: %w", err)
	}
	first.Stop()
	g.done = make(chan struct{})
	go func() {
		defer close(g.done)
		a.read(g, stream)
	}()
	return nil
}

// read reads the stream to its end.
func (a *Agents) read(g *agent, stream grpc.ServerStreamingClient[pb.WatchPromptsResponse]) {
	var shown []string // the sign-ins that the screen had before
	for {
		screen, err := stream.Recv()
		now := time.Now()
		if err != nil {
			a.mu.Lock()
			a.lost = append(a.lost, Lost{g.ID, now.UnixNano()})
			a.mu.Unlock()
			return
		}
		var shows []string
		for _, p := range screen.GetPrompts() {
			shows = append(shows, p.GetSignInId())
			if contains(shown, p.GetSignInId()) {
				continue
			}
			a.keep(&a.samples.Prompt, screen)
			if n := a.received(g, p.GetSignInId(), now); n != nil {
				go a.answer(g, n, p.GetDocument())
			}
		}
		switch {
		case len(screen.GetCodes()) > 0:
			a.keep(&a.samples.Code, screen)
		case len(shows) == 0 && len(shown) > 0:
			a.keep(&a.samples.Gone, screen)
		}
		shown = shows
	}
}

func contains(ids []string, id string) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

// received notes that one more device was sent the prompt. It returns the news
// if it was the last one.
func (a *Agents) received(g *agent, signIn string, now time.Time) *news {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.prompts[signIn]
	if n == nil {
		n = &news{SignIn: signIn}
		a.prompts[signIn] = n
	}
	if n.Received = append(n.Received, now.UnixNano()); len(n.Received) < a.of[g.Account] {
		return nil
	}
	delete(a.prompts, signIn)
	return n
}

// answer allows a sign-in and tells the person the code.
func (a *Agents) answer(g *agent, n *news, document []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	signed, err := g.decision(a.target, document)
	if err == nil {
		var resp *pb.DecideSignInResponse
		resp, err = g.client.DecideSignIn(ctx, &pb.DecideSignInRequest{Statement: signed})
		n.Code = resp.GetCode()
		a.keep(&a.samples.Decide, resp)
	}
	if err != nil {
		n.Error = err.Error()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told != nil {
		a.told.Encode(n) // an error means that the applications have gone
	}
}

// keep keeps the newest message of a kind.
func (a *Agents) keep(place *[]byte, m proto.Message) {
	if b, err := proto.Marshal(m); err == nil {
		a.mu.Lock()
		*place = b
		a.mu.Unlock()
	}
}

// Samples returns the newest message of each kind.
func (a *Agents) Samples(_ None, s *Samples) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	*s = a.samples
	if len(s.Prompt) == 0 || len(s.Code) == 0 || len(s.Gone) == 0 || len(s.Decide) == 0 {
		return errors.New("a kind of message was not seen")
	}
	return nil
}

// Cut closes all connections at once, and Restore connects again.
func (a *Agents) Cut(None, *None) error {
	return parallel(len(a.agents), func(i int) error {
		g := a.agents[i]
		defer g.cancel()
		return g.conn.Close()
	})
}

// Restore connects all agents again.
func (a *Agents) Restore(None, *None) error {
	for _, g := range a.agents {
		<-g.done
	}
	return a.connectAll()
}

// Lost returns the streams that ended so far.
func (a *Agents) Lost(_ None, lost *[]Lost) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	*lost = append([]Lost{}, a.lost...)
	return nil
}
