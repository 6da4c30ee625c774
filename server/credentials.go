package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/countersignd/countersign/internal/pin"
)

// tlsPeer is what is known of a connection to the public listener after its
// handshake.
type tlsPeer struct {
	credentials.CommonAuthInfo
	device string // key id of the client certificate, or "" if none was shown
	conn   *conn
}

// AuthType implements [credentials.AuthInfo].
func (tlsPeer) AuthType() string { return "tls" }

// socketPeer is what is known of a connection to the administrators' socket.
type socketPeer struct {
	credentials.CommonAuthInfo
	uid uint32
}

// AuthType implements [credentials.AuthInfo].
func (socketPeer) AuthType() string { return "peer-uid" }

// tlsCredentials does the handshake of the public listener and then moves the
// connection into the class that its client certificate puts it in.
type tlsCredentials struct {
	credentials.TransportCredentials
	known func(ctx context.Context, device string) (lastSeen time.Time, known bool)
}

// knownTimeout bounds the question whether a device is trusted. It is asked
// once a connection, for the connection's class only.
const knownTimeout = 5 * time.Second

func newTLSCredentials(cert tls.Certificate, known func(context.Context, string) (time.Time, bool)) credentials.TransportCredentials {
	return &tlsCredentials{credentials.NewTLS(pin.ServerConfig(cert)), known}
}

// ServerHandshake implements [credentials.TransportCredentials].
func (c *tlsCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	limited, ok := raw.(*conn)
	if !ok {
		return nil, nil, errors.New("a connection that did not come through the limiting listener")
	}
	secure, info, err := c.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	tlsInfo, ok := info.(credentials.TLSInfo)
	if !ok {
		return nil, nil, errors.New("a TLS handshake that says nothing of its peer")
	}
	device := ""
	if len(tlsInfo.State.PeerCertificates) > 0 {
		if device, err = pin.PeerKeyID(tlsInfo.State); err != nil {
			return nil, nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), knownTimeout)
	defer cancel()
	known := false
	if device != "" {
		limited.lastSeen, known = c.known(ctx, device)
	}
	if known {
		limited.promote(classDevice, device)
	} else {
		limited.promote(classStranger, "")
	}
	return secure, tlsPeer{tlsInfo.CommonAuthInfo, device, limited}, nil
}

// Clone implements [credentials.TransportCredentials].
func (c *tlsCredentials) Clone() credentials.TransportCredentials {
	return &tlsCredentials{c.TransportCredentials.Clone(), c.known}
}

// socketCredentials asks the operating system who is at the other end of a
// Unix socket. The answer is a fact, so nothing is exchanged.
type socketCredentials struct {
	peerUID func(net.Conn) (uint32, error)
}

// ServerHandshake implements [credentials.TransportCredentials].
func (c socketCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	uid, err := c.peerUID(raw)
	if err != nil {
		return nil, nil, err
	}
	// The kernel keeps what passes through the socket to its two ends.
	level := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return raw, socketPeer{level, uid}, nil
}

// ClientHandshake implements [credentials.TransportCredentials]; this is the
// server's side alone.
func (socketCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are the server's")
}

// Info implements [credentials.TransportCredentials].
func (socketCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peer-uid"}
}

// Clone implements [credentials.TransportCredentials].
func (c socketCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements [credentials.TransportCredentials].
func (socketCredentials) OverrideServerName(string) error { return nil }

// remoteIP returns the IP address at the other end of a call, for the record,
// or "" if there is none.
func remoteIP(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	if ip := addrOf(p.Addr); ip.IsValid() {
		return ip.String()
	}
	return ""
}

// addrOf returns the IP address of addr, or the zero Addr if it has none.
func addrOf(addr net.Addr) netip.Addr {
	if addr == nil {
		return netip.Addr{}
	}
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}
