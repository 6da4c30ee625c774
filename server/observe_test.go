package server_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/server"
)

// Every call is told of once when it is over, with what the caller was sent; also one
// that was refused before it was heard.
func TestCallsAreToldOf(t *testing.T) {
	var mu sync.Mutex
	calls := map[server.Call]int{}
	untimed := 0
	system := countersigntest.New(t, &countersigntest.Options{Called: func(c server.Call) {
		mu.Lock()
		defer mu.Unlock()
		if c.Took == 0 {
			untimed++
		}
		c.Took = 0
		calls[c]++
	}})
	system.AddAccount("ada")
	phone := system.EnrollDevice("ada")
	for range 8 { // the newest stream wins, so seven of them end
		if stream := phone.MustWatch(); stream == nil {
			t.Fatal("no stream")
		}
	}
	wantSoon(t, "streams that are open", 1, func() int { return system.Server.Load().Streams["DeviceService/WatchPrompts"] })
	replaced := server.Call{Method: "DeviceService/WatchPrompts", Code: codes.Aborted, Reason: "STREAM_REPLACED", Stream: true}
	count := func(c server.Call) func() int {
		return func() int {
			mu.Lock()
			defer mu.Unlock()
			return calls[c]
		}
	}
	wantSoon(t, "streams that were replaced", 7, count(replaced))

	// Eight calls whose message never comes are all that a connection may have.
	c := dialRaw(t, system, &phone.Certificate)
	for range 9 {
		c.begin(getSelf)
	}
	wantSoon(t, "calls that were one too many", 1, count(server.Call{Method: "DeviceService/GetSelf", Code: codes.ResourceExhausted, Reason: "RATE_LIMITED"}))
	mu.Lock()
	if untimed != 1 {
		t.Errorf("%d calls took no time, want the one that was not heard", untimed)
	}
	mu.Unlock()

	load := system.Server.Load()
	if load.Devices < 2 || load.Applications != 0 || load.RefusedConnections != 0 {
		t.Errorf("Load = %+v, want the device's connections and no others", load)
	}
	system.AddApplication("files").MustBegin("ada")
	if got := system.Server.Load(); got.Applications != 1 {
		t.Errorf("Load = %+v, want an application's connection", got)
	}
}

func TestRefusedConnectionsAreCounted(t *testing.T) {
	system := countersigntest.New(t, &countersigntest.Options{Limits: server.Limits{SourceRate: 1, SourceBurst: 3}})
	for range 10 {
		// One that is refused may be reset before Dial has returned.
		if conn, err := net.Dial("tcp", system.Address); err == nil {
			defer conn.Close()
		}
	}
	wantSoon(t, "connections that are counted", 10, func() int {
		load := system.Server.Load()
		return load.Handshakes + load.Strangers + int(load.RefusedConnections)
	})
	if got := system.Server.Load(); got.RefusedConnections < 1 || got.RefusedConnections > 7 {
		t.Errorf("Load = %+v, want up to 7 refused", got)
	}
}

func wantSoon(t *testing.T, what string, want int, read func() int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); read() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s: %d, want %d", what, read(), want)
			return
		}
	}
}
