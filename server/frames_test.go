package server_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/pin"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// rawClient speaks HTTP/2 frame by frame, as no library would.
type rawClient struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
	hpack  *hpack.Encoder
	block  bytes.Buffer
	next   uint32
	ended  map[uint32]string // what became of a stream
	write  sync.Mutex        // held to write when take may do so elsewhere
}

// dialRaw connects with TLS and exchanges settings. cert may be nil.
func dialRaw(t *testing.T, system *countersigntest.System, cert *tls.Certificate) *rawClient {
	t.Helper()
	conn, err := tls.Dial("tcp", system.Address, pin.ClientConfig(cert, system.Pin))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return newRawClient(t, conn)
}

func newRawClient(t *testing.T, conn net.Conn, settings ...http2.Setting) *rawClient {
	t.Helper()
	c := &rawClient{t: t, conn: conn, framer: http2.NewFramer(conn, conn), next: 1, ended: map[uint32]string{}}
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.hpack = hpack.NewEncoder(&c.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := c.framer.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return c
}

// headers encodes the headers of a call.
func (c *rawClient) headers(path string, extra ...string) []byte {
	c.block.Reset()
	for _, h := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":path", path}, {":authority", "countersign"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		c.hpack.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	for i := 0; i < len(extra); i += 2 {
		c.hpack.WriteField(hpack.HeaderField{Name: extra[i], Value: extra[i+1]})
	}
	return c.block.Bytes()
}

// begin opens a stream and leaves its message open. Errors of writing are
// seen when reading.
func (c *rawClient) begin(path string, extra ...string) uint32 {
	id := c.next
	c.next += 2
	c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.headers(path, extra...), EndHeaders: true})
	return id
}

// message ends a stream with a message of gRPC.
func (c *rawClient) message(id uint32, body []byte) {
	data := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))
	data = append(data, body...)
	for len(data) > 16000 {
		c.framer.WriteData(id, false, data[:16000])
		data = data[16000:]
	}
	c.framer.WriteData(id, true, data)
}

// wait reads until the stream has ended, and returns how: a gRPC status, a
// reset, or the end of the connection.
func (c *rawClient) wait(id uint32) string {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for c.ended[id] == "" {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				c.t.Fatalf("stream %d did not end", id)
			}
			return "connection closed"
		}
		c.take(frame)
	}
	return c.ended[id]
}

func (c *rawClient) take(frame http2.Frame) {
	c.write.Lock()
	defer c.write.Unlock()
	id := frame.Header().StreamID
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		for _, h := range f.Fields {
			if h.Name == "grpc-status" && c.ended[id] == "" {
				c.ended[id] = "status " + h.Value
			}
		}
	case *http2.RSTStreamFrame:
		if c.ended[id] == "" {
			c.ended[id] = "reset"
		}
	case *http2.SettingsFrame:
		if !f.IsAck() {
			c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			c.framer.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		c.ended[id] = fmt.Sprintf("goaway %v", f.ErrCode)
	}
}

const getSelf = "/countersign.v1.DeviceService/GetSelf"

// Names of methods are compared byte for byte (CVE-2026-33186: a path without
// its slash once went round the authorization).
func TestPathsAreExact(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	device := system.EnrollDevice("ada")
	for _, test := range []struct{ path, want string }{
		{getSelf, "status 0"},
		{strings.TrimPrefix(getSelf, "/"), "status 12"},
		{"/" + getSelf, "status 12"},
		{getSelf + "/", "status 12"},
		{getSelf + "?", "status 12"},
		{getSelf + "#", "status 12"},
		{getSelf + "\x00", "reset"},
		{"/countersign.v1.DeviceService/getself", "status 12"},
		{"/countersign.v1.deviceservice/GetSelf", "status 12"},
		{"/countersign.v1.DeviceService/%47etSelf", "status 12"},
		{"/countersign.v1.DeviceService/./GetSelf", "status 12"},
		{"/countersign.v1.DeviceService//GetSelf", "status 12"},
		{"/x/../countersign.v1.DeviceService/GetSelf", "status 12"},
		{"https://countersign" + getSelf, "status 12"},
		{"/countersign.v1.AdminService/GetServer", "status 12"},
		{"countersign.v1.AdminService/GetServer", "status 12"},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "status 12"},
		{"/grpc.channelz.v1.Channelz/GetServers", "status 12"},
		{"/", "status 12"},
		{"*", "status 12"},
		{"", "status 12"},
	} {
		c := dialRaw(t, system, &device.Certificate)
		id := c.begin(test.path)
		c.message(id, nil)
		if got := c.wait(id); got != test.want {
			t.Errorf(":path %q: %s, want %s", test.path, got, test.want)
		}
	}
}

func TestBadMessagesAreRefused(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	device := system.EnrollDevice("ada")
	const update = "/countersign.v1.DeviceService/UpdateDevice"
	field1 := func(value string) []byte {
		return append(binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(value))), value...)
	}
	const internal, invalid = "status 13", "status 3"
	for _, test := range []struct {
		name, path string
		body       []byte
		want       string
	}{
		{"well formed", update, field1("Renamed"), "status 0"},
		{"invalid UTF-8", update, field1("\xff\xfe"), internal},
		{"overlong UTF-8", update, field1("\xc0\x80"), internal},
		{"garbage", update, []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), internal},
		{"a length beyond the end", update, []byte{1<<3 | 2, 200, 'x'}, internal},
		{"a wrong wire type", update, []byte{1 << 3, 5}, invalid},
		{"control characters", update, field1("a\x1b[2J"), invalid},
		{"a bidirectional mark", update, field1("a\u202eb"), invalid},
		{"65 characters", update, field1(strings.Repeat("x", 65)), invalid},
		{"64 characters", update, field1(strings.Repeat("x", 64)), "status 0"},
		{"an unknown field", update, append(field1("Renamed"), 15<<3, 1), "status 0"},
	} {
		c := dialRaw(t, system, &device.Certificate)
		id := c.begin(test.path)
		c.message(id, test.body)
		if got := c.wait(id); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if strings.Contains(system.Log(), "panic") {
		t.Errorf("something panicked")
	}
}

func TestMessagesAreBounded(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	device := system.EnrollDevice("ada")
	for _, test := range []struct {
		size int
		want codes.Code
	}{{64 << 10, codes.InvalidArgument}, {64<<10 + 1, codes.ResourceExhausted}, {1 << 20, codes.ResourceExhausted}} {
		request := &pb.DecideSignInRequest{Statement: strings.Repeat("x", test.size-4)}
		if got := proto.Size(request); got != test.size {
			t.Fatalf("the request has %d bytes, want %d", got, test.size)
		}
		if _, err := device.Client.DecideSignIn(t.Context(), request); status.Code(err) != test.want {
			t.Errorf("%d bytes: %v, want %v", test.size, err, test.want)
		}
	}
}

func TestCompressedMessagesAreRefused(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	device := system.EnrollDevice("ada")
	c := dialRaw(t, system, &device.Certificate)
	id := c.begin(getSelf, "grpc-encoding", "gzip")
	c.framer.WriteData(id, true, []byte{1, 0, 0, 0, 1, 'x'})
	if got := c.wait(id); got != "status 12" {
		t.Errorf("a compressed message: %s, want status 12", got)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	device := system.EnrollDevice("ada")
	c := dialRaw(t, system, &device.Certificate)
	var padding []string
	for i := range 100 {
		padding = append(padding, fmt.Sprint("x-padding-", i), strings.Repeat("x", 50))
	}
	id := c.begin(getSelf, padding...)
	if got := c.wait(id); got != "reset" {
		t.Errorf("9 KiB of headers: %s, want reset", got)
	}
	// The connection is still good for others.
	id = c.begin(getSelf)
	c.message(id, nil)
	if got := c.wait(id); got != "status 0" {
		t.Errorf("a call afterwards: %s, want status 0", got)
	}
	// A single header that is larger than all may be.
	c = dialRaw(t, system, nil)
	if got := c.wait(c.begin(getSelf, "x-padding", strings.Repeat("x", 9<<10))); got == "status 0" {
		t.Errorf("a header of 9 KiB: %s, want a refusal", got)
	}
	// CONTINUATION frames without an end.
	c = dialRaw(t, system, nil)
	c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.headers(getSelf)})
	piece := bytes.Repeat([]byte{0x00, 0x01, 'a', 0x01, 'b'}, 3000)
	for range 200 {
		if c.framer.WriteContinuation(1, false, piece) != nil {
			break
		}
	}
	if got := c.wait(1); got != "connection closed" && !strings.HasPrefix(got, "goaway") {
		t.Errorf("endless headers: %s, want the connection closed", got)
	}
}

// An agent may have eight calls open on a connection, and they count from
// their headers on: here no message ever comes.
func TestCallsAtOnceAreBounded(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	device := system.EnrollDevice("ada")
	for name, cert := range map[string]*tls.Certificate{"a device": &device.Certificate, "a stranger": nil} {
		c := dialRaw(t, system, cert)
		var first uint32
		for i := range 8 {
			if id := c.begin(getSelf); i == 0 {
				first = id
			}
		}
		if got := c.wait(c.begin(getSelf)); got != "status 8" {
			t.Errorf("%s's ninth call: %s, want status 8", name, got)
		}
		// When one ends, there is room for one.
		c.framer.WriteRSTStream(first, http2.ErrCodeCancel)
		deadline := time.Now().Add(5 * time.Second)
		for {
			id := c.begin(getSelf)
			c.message(id, nil)
			got := c.wait(id)
			if got == "status 0" && cert != nil || got == "status 16" && cert == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s's call after another ended: %s", name, got)
			}
		}
	}
}

// An application has 64, once it has shown a good token.
func TestAnApplicationsCallsAtOnce(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	system.EnrollDevice("ada")
	files := system.AddApplication("files")
	signIn := files.MustBegin("ada")
	c := dialRaw(t, system, nil)
	const watch = "/countersign.v1.SignInService/CancelSignIn"
	token := []string{"authorization", "Bearer " + files.Token}
	id := c.begin(watch, token...)
	c.message(id, append([]byte{1<<3 | 2, 26}, signIn.GetId()...))
	if got := c.wait(id); got != "status 0" {
		t.Fatalf("the first call: %s, want status 0", got)
	}
	ids := make([]uint32, 65)
	for i := range ids {
		ids[i] = c.begin(watch, token...)
	}
	if got := c.wait(ids[64]); got != "reset" && got != "status 8" {
		t.Errorf("the 65th call: %s, want it refused", got)
	}
	for _, id := range ids[:64] {
		if got := c.ended[id]; got != "" {
			t.Fatalf("call %d: %s, want it open", id, got)
		}
	}
}

// A16, rapid reset (CVE-2023-44487): ten thousand calls, each reset at once.
func TestRapidReset(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	device := system.EnrollDevice("ada")
	c := dialRaw(t, system, nil)
	go io.Copy(io.Discard, c.conn)
	for range 10_000 {
		id := c.begin(getSelf)
		if c.framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break
		}
	}
	c.conn.Close()
	began := time.Now()
	device.MustWatch()
	if took := time.Since(began); took > time.Second {
		t.Errorf("a device was served after %v, want less than a second", took)
	}
}
