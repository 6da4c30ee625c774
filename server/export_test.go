package server

import "net"

// NewWithPeerUID is New with another way to find out who calls on the
// administrators' listener.
func NewWithPeerUID(c Config, peerUID func(net.Conn) (uint32, error)) (*Server, error) {
	return newServer(c, peerUID)
}
