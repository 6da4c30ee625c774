package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/countersignd/countersign/internal/pin"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// Bare is the limit of a server: gRPC over mutual TLS with the product's buffers
// and limits, that answers with messages which the product has once sent, writes
// the rows that the product writes, checks one signature with each decision, and
// decides nothing.
type Bare struct {
	pb.UnimplementedDeviceServiceServer
	pb.UnimplementedSignInServiceServer
	store *bareStore
	rows  recorded

	prompt, code, gone *pb.WatchPromptsResponse
	begin              *pb.BeginSignInResponse
	decide             *pb.DecideSignInResponse
	verify             *pb.VerifySignInResponse

	signIns  atomic.Uint64
	devices  map[string]*bareDevice   // by id
	accounts map[string][]*bareDevice // by name

	mu   sync.Mutex
	open map[string]bareSignIn // by id
}

type bareDevice struct {
	account  string
	approval *ecdsa.PublicKey
	bell     chan *bareMessage
	watching atomic.Bool
	asked    atomic.Pointer[bareSignIn] // the newest sign-in of the account
}

type bareSignIn struct {
	n           uint64
	id, account string
}

// A bareMessage is encoded once, by the first stream that sends it.
type bareMessage struct {
	message proto.Message
	once    sync.Once
	ready   grpc.PreparedMsg
	err     error
}

// BareArgs say what to pretend.
type BareArgs struct {
	Devices string // the file
	Samples Samples
	Rows    recorded
	Store   string // a new file
}

// listen makes a key and a port for who serves as t, which it fills in.
func (t *Target) listen() (tls.Certificate, net.Listener, error) {
	cert, err := pin.Certificate(newKey(), "bare")
	if err != nil {
		return cert, nil, err
	}
	if t.Pin, err = pin.KeyID(cert.Leaf.PublicKey); err != nil {
		return cert, nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return cert, nil, err
	}
	t.Address = listener.Addr().String()
	return cert, listener, nil
}

// Serve serves until the process ends.
func (b *Bare) Serve(args BareArgs, t *Target) error {
	if err := b.learn(args); err != nil {
		return err
	}
	var err error
	if b.store, err = openBareStore(args.Store); err != nil {
		return err
	}
	cert, listener, err := t.listen()
	if err != nil {
		return err
	}
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(pin.ServerConfig(cert))),
		grpc.MaxConcurrentStreams(64),
		grpc.MaxRecvMsgSize(64<<10),
		grpc.MaxHeaderListSize(8<<10),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: 10 * time.Minute, MaxConnectionAge: time.Hour, MaxConnectionAgeGrace: 30 * time.Second,
			Time: 60 * time.Second, Timeout: 10 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 30 * time.Second, PermitWithoutStream: true}),
		grpc.ReadBufferSize(0),
		grpc.WriteBufferSize(4<<10),
		grpc.StaticStreamWindowSize(64<<10),
		grpc.StaticConnWindowSize(64<<10),
	)
	pb.RegisterDeviceServiceServer(g, b)
	pb.RegisterSignInServiceServer(g, b)
	go g.Serve(listener) // until the process ends
	t.Name = strings.Repeat("a", 26)
	return nil
}

// learn reads the devices and the messages.
func (b *Bare) learn(args BareArgs) error {
	b.rows, b.open = args.Rows, map[string]bareSignIn{}
	b.prompt, b.code, b.gone = new(pb.WatchPromptsResponse), new(pb.WatchPromptsResponse), new(pb.WatchPromptsResponse)
	b.begin, b.decide, b.verify = new(pb.BeginSignInResponse), new(pb.DecideSignInResponse), new(pb.VerifySignInResponse)
	for _, m := range []struct {
		bytes   []byte
		message proto.Message
	}{
		{args.Samples.Prompt, b.prompt}, {args.Samples.Code, b.code}, {args.Samples.Gone, b.gone},
		{args.Samples.Begin, b.begin}, {args.Samples.Decide, b.decide}, {args.Samples.Verify, b.verify},
	} {
		if err := proto.Unmarshal(m.bytes, m.message); err != nil {
			return err
		}
	}
	devices, err := readDevices(args.Devices, 0, -1)
	if err != nil {
		return err
	}
	b.devices, b.accounts = map[string]*bareDevice{}, map[string][]*bareDevice{}
	for _, d := range devices {
		known := &bareDevice{account: d.Account, approval: &d.approval.PublicKey, bell: make(chan *bareMessage, 8)}
		b.devices[d.ID] = known
		b.accounts[d.Account] = append(b.accounts[d.Account], known)
	}
	return nil
}

// caller returns the device that calls.
func (b *Bare) caller(ctx context.Context) (*bareDevice, error) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return nil, errors.New("no peer")
	}
	secure, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, errors.New("no TLS")
	}
	id, err := pin.PeerKeyID(secure.State)
	if err != nil {
		return nil, err
	}
	if d := b.devices[id]; d != nil {
		return d, nil
	}
	return nil, errors.New("no such device")
}

// WatchPrompts sends what is rung.
func (b *Bare) WatchPrompts(_ *pb.WatchPromptsRequest, stream grpc.ServerStreamingServer[pb.WatchPromptsResponse]) error {
	d, err := b.caller(stream.Context())
	if err != nil {
		return err
	}
	d.watching.Store(true)
	defer d.watching.Store(false)
	if err := stream.Send(b.gone); err != nil {
		return err
	}
	beat := time.NewTicker(30 * time.Second)
	defer beat.Stop()
	for {
		select {
		case m := <-d.bell:
			m.once.Do(func() { m.err = m.ready.Encode(stream, m.message) })
			if m.err != nil {
				return m.err
			}
			if err := stream.SendMsg(&m.ready); err != nil {
				return err
			}
		case <-beat.C:
			if err := stream.Send(b.gone); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// ring sends a message to the devices of an account; to one of them another one.
func (b *Bare) ring(account string, message proto.Message, one *bareDevice, other proto.Message) {
	m := &bareMessage{message: message}
	for _, d := range b.accounts[account] {
		if !d.watching.Load() {
			continue
		}
		if d == one {
			d.bell <- &bareMessage{message: other}
		} else {
			d.bell <- m
		}
	}
}

// BeginSignIn writes, rings and answers.
func (b *Bare) BeginSignIn(_ context.Context, req *pb.BeginSignInRequest) (*pb.BeginSignInResponse, error) {
	s := bareSignIn{n: b.signIns.Add(1), id: signInID(), account: req.GetAccount()}
	if err := b.store.commit(b.rows.Begin, s.n, s.account, s.id); err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.open[s.id] = s
	b.mu.Unlock()
	for _, d := range b.accounts[s.account] {
		d.asked.Store(&s)
	}
	prompt := proto.CloneOf(b.prompt)
	prompt.Prompts[0].SignInId = s.id
	b.ring(s.account, prompt, nil, nil)
	resp := proto.CloneOf(b.begin)
	resp.SignIn.Id = s.id
	return resp, nil
}

// DecideSignIn checks the signature, writes, rings and answers.
func (b *Bare) DecideSignIn(ctx context.Context, req *pb.DecideSignInRequest) (*pb.DecideSignInResponse, error) {
	d, err := b.caller(ctx)
	if err != nil {
		return nil, err
	}
	if !signedBy(d.approval, req.GetStatement()) {
		return nil, errors.New("the signature is wrong")
	}
	s := d.asked.Load()
	if s == nil {
		return nil, errors.New("nobody has asked")
	}
	if err := b.store.commit(b.rows.Decide, s.n, s.account, s.id); err != nil {
		return nil, err
	}
	b.ring(s.account, b.gone, d, b.code)
	return b.decide, nil
}

// VerifySignIn writes, rings and answers.
func (b *Bare) VerifySignIn(_ context.Context, req *pb.VerifySignInRequest) (*pb.VerifySignInResponse, error) {
	b.mu.Lock()
	s, ok := b.open[req.GetSignInId()]
	delete(b.open, req.GetSignInId())
	b.mu.Unlock()
	if !ok {
		return nil, errors.New("no such sign-in")
	}
	if err := b.store.commit(b.rows.Verify, s.n, s.account, s.id); err != nil {
		return nil, err
	}
	for _, d := range b.accounts[s.account][:1] {
		if d.watching.Load() {
			d.bell <- &bareMessage{message: b.gone}
		}
	}
	return b.verify, nil
}

// signedBy checks the signature of a JWS, and looks at nothing else in it.
func signedBy(key *ecdsa.PublicKey, jws string) bool {
	i := strings.LastIndexByte(jws, '.')
	if i < 0 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(jws[i+1:])
	if err != nil || len(signature) != 64 {
		return false
	}
	sum := sha256.Sum256([]byte(jws[:i]))
	return ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}
