package server

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// peerUID returns the uid of the process at the other end of a Unix socket, as
// it was when that process connected.
func peerUID(c net.Conn) (uint32, error) {
	socket, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("the administrators' listener is not a Unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("reading the peer's credentials: %w", err)
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("reading the peer's credentials: %w", err)
	}
	return cred.Uid, nil
}
