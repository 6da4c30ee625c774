//go:build !linux

package server

import (
	"errors"
	"net"
)

// peerUID refuses: how to ask for the uid of a peer is known on Linux only.
func peerUID(net.Conn) (uint32, error) {
	return 0, errors.New("on this operating system the server cannot tell who calls its administrators' socket, so nobody may; run it on Linux")
}
