package server_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/approval/storetest"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A bubble is a server whose time is not real (package synctest), with a
// trusted device of the account ada and a token of an application.
type bubble struct {
	t      *testing.T
	broker *approval.Broker
	public *bufconn.Listener
	pin    string
	cert   tls.Certificate // of the device
	device string
	token  string
	log    syncBuffer
	stop   func()
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newBubble(t *testing.T) *bubble {
	key := func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }
	b := &bubble{t: t, public: bufconn.Listen(1 << 20)}
	serverKey := key()
	b.pin = must(pin.KeyID(serverKey.Public()))
	log := slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	secrets := must(approval.NewSecrets(make([]byte, 32), key()))
	b.broker = must(approval.Open(t.Context(), approval.Config{
		Store: storetest.NewMemory(), Secrets: secrets, ServerKey: b.pin, Log: log,
	}))
	b.enroll(key(), key())
	srv := must(server.NewWithPeerUID(server.Config{
		Broker: b.broker, Certificate: must(pin.Certificate(serverKey, "")), PublicAddress: "localhost:1", Log: log,
		Backup: func(context.Context, string) (int64, error) { return 0, errors.New("no") },
	}, func(net.Conn) (uint32, error) { return 0, nil }))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- srv.Serve(ctx, b.public, bufconn.Listen(1)) }()
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve = %v, want nil", err)
		}
	}
	return b
}

func (b *bubble) enroll(identity, approvalKey *ecdsa.PrivateKey) {
	admin := b.broker.Administrator(approval.Actor{Kind: approval.ActorAdministrator, ID: "uid 0 (root)"})
	must(admin.AddAccount(b.t.Context(), "ada"))
	_, token, err := admin.AddApplication(b.t.Context(), "files", "Files")
	b.token = must(token, err)
	inv, _, err := admin.CreateInvitation(b.t.Context(), "ada", 0)
	must(inv, err)
	b.cert = must(pin.Certificate(identity, ""))
	b.device = must(pin.KeyID(identity.Public()))
	signed := must(statement.Sign(approvalKey, statement.Enrollment{
		ApprovalKey: must(statement.NewJWK(&approvalKey.PublicKey)), Aud: b.broker.Deployment(), Device: b.device,
		Iat: time.Now().Unix(), Invitation: invitation.Hash(inv), KeyStorage: "file", Kind: "terminal", Name: "Phone", ServerKey: b.pin,
	}))
	must(b.broker.EnrollDevice(b.t.Context(), approval.Enrolling{Device: b.device, Token: inv, Statement: signed}))
}

// client returns a device's client.
func (b *bubble) client() (pb.DeviceServiceClient, func()) {
	conn := must(grpc.NewClient("passthrough:///bubble",
		grpc.WithTransportCredentials(credentials.NewTLS(pin.ClientConfig(&b.cert, b.pin))),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return b.public.DialContext(ctx) })))
	return pb.NewDeviceServiceClient(conn), func() { conn.Close() }
}

// begin begins a sign-in whose prompt is as large as prompts get.
func (b *bubble) begin(session string) approval.SignIn {
	words := strings.Repeat("漢", 64)
	return must(b.broker.BeginSignIn(b.t.Context(), b.token, approval.Request{
		Account: "ada", Message: words,
		Requester: approval.Requester{Session: session, Place: words, Device: words, Program: words},
	}))
}

// The complete set comes at once, when it changes, when it expires, and every
// 30 seconds, and no more often.
func TestWhenPromptsAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		client, hangUp := b.client()
		stream := must(client.WatchPrompts(t.Context(), &pb.WatchPromptsRequest{}))
		began := time.Now()
		var got []string
		recv := func() {
			m := must(stream.Recv())
			got = append(got, fmt.Sprintf("%v:%d", time.Since(began).Round(time.Millisecond), len(m.GetPrompts())))
		}
		recv() // at once
		recv() // heartbeat at 30 s
		time.Sleep(10 * time.Second)
		b.begin("one")
		b.begin("one") // the same again: nothing has changed
		recv()         // at 40 s
		for range 9 {
			recv() // heartbeats from 70 s to 310 s
		}
		recv() // the prompt expires at 340 s
		recv()
		want := "0s:0 30s:0 40s:1 1m10s:1 1m40s:1 2m10s:1 2m40s:1 3m10s:1 3m40s:1 4m10s:1 4m40s:1 5m10s:1 5m40s:0 6m10s:0"
		if line := strings.Join(got, " "); line != want {
			t.Errorf("messages came at\n%s, want\n%s", line, want)
		}
		hangUp()
		b.stop()
	})
}

// A stream that stays open is noted as a sign of life every hour.
func TestAnOpenStreamIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		client, hangUp := b.client()
		ctx, cancel := context.WithCancel(t.Context())
		stream := must(client.WatchPrompts(ctx, &pb.WatchPromptsRequest{}))
		seen := func() time.Time {
			synctest.Wait()
			admin := b.broker.Administrator(approval.Actor{Kind: approval.ActorAdministrator})
			return must(admin.Device(t.Context(), b.device)).LastSeen
		}
		must(stream.Recv())
		began := time.Now()
		if got := seen(); began.Sub(got) >= time.Minute {
			t.Errorf("at the start: last seen %v ago, want less than a minute", began.Sub(got))
		}
		time.Sleep(20*time.Minute + 10*time.Second)
		cancel()
		if got := time.Since(seen()); got >= time.Minute {
			t.Errorf("at the end: last seen %v ago, want less than a minute", got)
		}
		hangUp()
		b.stop()
	})
}

// A device that reads frames but never makes room for a message is told so, if
// it makes room then, and its connection is closed either way.
func TestASlowReaderIsCut(t *testing.T) {
	for name, wakes := range map[string]bool{"for good": false, "until it is cut": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testSlowReader(t, wakes) })
		})
	}
}

// A revoked device that has a connection from before is not the server's any longer
// than it takes to read why: on a new one it is a stranger, whose calls are few and
// in no log.
func TestARevokedDevicesConnectionsAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		secure := tls.Client(must(b.public.Dial()), pin.ClientConfig(&b.cert, b.pin))
		c := newRawClient(t, secure)
		call := func() string {
			id := c.begin("/countersign.v1.DeviceService/GetSelf")
			c.message(id, nil)
			return c.wait(id)
		}
		if got := call(); got != "status 0" {
			t.Fatalf("the device's call ended with %q, want %q", got, "status 0")
		}
		must(b.broker.Administrator(approval.Actor{Kind: approval.ActorAdministrator}).RevokeDevice(t.Context(), b.device, ""))
		began, calls, last := time.Now(), 0, ""
		for ; last != "connection closed" && time.Since(began) < time.Minute; calls++ {
			if last = call(); calls == 0 && last != "status 7" {
				t.Errorf("the revoked device's call ended with %q, want %q", last, "status 7")
			}
			time.Sleep(time.Second)
		}
		if last != "connection closed" || calls > 7 {
			t.Errorf("after %v and %d calls the last one ended with %q, want the connection closed after five seconds", time.Since(began), calls, last)
		}
		b.stop()
	})
}

func testSlowReader(t *testing.T, wakes bool) {
	b := newBubble(t)
	secure := tls.Client(must(b.public.Dial()), pin.ClientConfig(&b.cert, b.pin))
	c := newRawClient(t, secure, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for i := range 2 {
		b.begin(fmt.Sprint("first", i))
	}
	id := c.begin("/countersign.v1.DeviceService/WatchPrompts")
	c.message(id, nil)
	began, last := time.Now(), b.begin("last")
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for {
			frame, err := c.framer.ReadFrame()
			if err != nil {
				return
			}
			c.take(frame)
		}
	}()
	for !strings.Contains(b.log.String(), "reason=SLOW_READER") {
		time.Sleep(time.Second)
		// The account bears three at a time, so those that are there give way
		// to others: each change is one more message that finds no room.
		if _, err := b.broker.CancelSignIn(t.Context(), b.token, last.ID); err != nil {
			t.Fatal(err)
		}
		last = b.begin(rand.Text())
		if time.Since(began) > 5*time.Minute {
			t.Fatal("a slow reader was not cut within five minutes")
		}
	}
	if wakes {
		c.write.Lock()
		c.framer.WriteWindowUpdate(id, 1<<20)
		c.framer.WriteWindowUpdate(0, 1<<20)
		c.write.Unlock()
	}
	cutAt := time.Now()
	<-closed
	if took := time.Since(cutAt); took > 5*time.Second {
		t.Errorf("the connection was closed %v after the stream was ended, want at most 5s", took)
	}
	if want := map[bool]string{true: "status 8", false: ""}[wakes]; c.ended[id] != want {
		t.Errorf("the stream ended with %q, want %q", c.ended[id], want)
	}
	if b.broker.Connected(b.device) {
		t.Error("the device still counts as connected")
	}
	b.stop()
}

// A call that a stop finds under way may end, and one that does not is cut off.
func TestStopWaitsForFiveSecondsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t)
		// One connection that says nothing, one that stops after its TLS
		// handshake, one that has begun a call and never goes on, and one
		// that reads nothing.
		must(b.public.Dial())
		silent := tls.Client(must(b.public.Dial()), pin.ClientConfig(&b.cert, b.pin))
		if err := silent.Handshake(); err != nil {
			t.Fatal(err)
		}
		calling := newRawClient(t, tls.Client(must(b.public.Dial()), pin.ClientConfig(&b.cert, b.pin)))
		calling.begin(getSelf)
		watching := newRawClient(t, tls.Client(must(b.public.Dial()), pin.ClientConfig(&b.cert, b.pin)))
		watching.message(watching.begin("/countersign.v1.DeviceService/WatchPrompts"), nil)
		synctest.Wait()
		if !b.broker.Connected(b.device) {
			t.Fatal("the stream is not open")
		}
		began := time.Now()
		b.stop()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("stopping took %v, want at most 5s", took)
		}
	})
}

func TestStopIsFastWhenNobodyHangs(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	for range 20 {
		system.EnrollDevice("ada").MustWatch()
	}
	began := time.Now()
	system.Stop()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("stopping under 20 streams took %v, want less than 2s", took)
	}
}
