package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
)

// A notifier tells the service manager what the server is about, if there is one
// that wants to know: sd_notify(3). The zero value tells nobody.
type notifier struct {
	socket   string // a path, or a name in the abstract namespace after @
	watchdog bool   // it ends this process when it does not hear of it for some time
}

// What a service manager is told.
const (
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
	notifyAlive    = "WATCHDOG=1"
)

// newNotifier returns a notifier for what the environment says.
func newNotifier() notifier {
	n := notifier{socket: os.Getenv("NOTIFY_SOCKET")}
	usec, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID") // a child of another service inherits what is not meant for it
	n.watchdog = err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid()))
	return n
}

// tell says one thing. The message is in the socket's queue when it returns.
func (n notifier) tell(what string) error {
	if n.socket == "" {
		return nil
	}
	if n.socket[0] != '/' && n.socket[0] != '@' {
		return fmt.Errorf("telling the service manager: NOTIFY_SOCKET is %q, want a path or @ and a name", n.socket)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("telling the service manager: %w", err)
	}
	defer conn.Close() // a datagram is sent or not
	if _, err := conn.Write([]byte(what)); err != nil {
		return fmt.Errorf("telling the service manager: %w", err)
	}
	return nil
}

// alive says that the server is, if that is asked for.
func (n notifier) alive() error {
	if !n.watchdog {
		return nil
	}
	return n.tell(notifyAlive)
}
