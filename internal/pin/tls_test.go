package pin

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// The first application bytes of the two sides. Neither may be read by the other
// when a handshake has to fail.
var (
	question = []byte("question of the client")
	answer   = []byte("answer of the server")
)

// outcome is what became of a connection on both sides.
type outcome struct {
	clientErr, serverErr   error
	clientRead, serverRead []byte // application data
	clientState            tls.ConnectionState
	serverState            tls.ConnectionState
	sent                   int64 // bytes of the client on the wire
}

// connect lets client talk to server over loopback. Either of them speaks no TLS
// if its configuration is nil.
func connect(t *testing.T, server, client *tls.Config) outcome {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	var o outcome
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := listener.Accept()
		if err != nil {
			o.serverErr = err
			return
		}
		raw.SetDeadline(time.Now().Add(10 * time.Second))
		defer raw.Close()
		var conn io.ReadWriter = raw
		if server != nil {
			tlsConn := tls.Server(raw, server)
			if o.serverErr = tlsConn.Handshake(); o.serverErr != nil {
				return
			}
			o.serverState = tlsConn.ConnectionState()
			conn = tlsConn
		}
		buf := make([]byte, len(question))
		n, err := io.ReadFull(conn, buf)
		o.serverRead, o.serverErr = buf[:n], err
		if err == nil {
			_, o.serverErr = conn.Write(answer)
		}
	}()

	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	raw.SetDeadline(time.Now().Add(10 * time.Second))
	counted := &countingConn{Conn: raw}
	var conn io.ReadWriter = counted
	if client != nil {
		tlsConn := tls.Client(counted, client)
		o.clientErr = tlsConn.Handshake()
		o.clientState = tlsConn.ConnectionState()
		conn = tlsConn
	}
	if o.clientErr == nil {
		if _, o.clientErr = conn.Write(question); o.clientErr == nil {
			o.clientRead, o.clientErr = io.ReadAll(io.LimitReader(conn, int64(len(answer))))
		}
	}
	raw.Close()
	<-done
	o.sent = counted.written.Load()
	return o
}

type countingConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

func mustCertificate(t *testing.T, key crypto.Signer) *tls.Certificate {
	t.Helper()
	cert, err := Certificate(key, "test")
	if err != nil {
		t.Fatal(err)
	}
	return &cert
}

// foreignCertificate is a self-signed certificate for any kind of key.
func foreignCertificate(t *testing.T, key crypto.Signer) tls.Certificate {
	t.Helper()
	return issue(t, key, key, nil)
}

// issue makes a certificate for loopback, signed by the issuer.
func issue(t *testing.T, key, issuerKey crypto.Signer, issuer *x509.Certificate) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "stranger"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  issuer == nil,
		BasicConstraintsValid: true,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:              []string{"stranger.example"},
	}
	if issuer == nil {
		issuer = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func TestPinnedConnection(t *testing.T) {
	serverKey, deviceKey := newKey(t), newKey(t)
	server := ServerConfig(*mustCertificate(t, serverKey))
	serverID := mustKeyID(t, serverKey.Public())
	for name, cert := range map[string]*tls.Certificate{
		"with certificate":    mustCertificate(t, deviceKey),
		"without certificate": nil,
	} {
		o := connect(t, server, ClientConfig(cert, serverID))
		if o.clientErr != nil || o.serverErr != nil {
			t.Errorf("%s: client: %v, server: %v, want no errors", name, o.clientErr, o.serverErr)
			continue
		}
		if !bytes.Equal(o.serverRead, question) || !bytes.Equal(o.clientRead, answer) {
			t.Errorf("%s: read %q and %q, want question and answer", name, o.serverRead, o.clientRead)
		}
		cs := o.serverState
		if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != "h2" || cs.DidResume {
			t.Errorf("%s: version %x, protocol %q, resumed %v, want TLS 1.3, h2, not resumed", name, cs.Version, cs.NegotiatedProtocol, cs.DidResume)
		}
		if id, err := PeerKeyID(o.clientState); err != nil || id != serverID {
			t.Errorf("%s: PeerKeyID at the client = %q, %v, want %q", name, id, err, serverID)
		}
		id, err := PeerKeyID(cs)
		if cert == nil && err == nil {
			t.Errorf("%s: PeerKeyID at the server = %q, want an error", name, id)
		}
		if want := mustKeyID(t, deviceKey.Public()); cert != nil && id != want {
			t.Errorf("%s: PeerKeyID at the server = %q, %v, want %q", name, id, err, want)
		}
	}
}

func TestSessionsAreNotResumed(t *testing.T) {
	serverKey := newKey(t)
	server := ServerConfig(*mustCertificate(t, serverKey))
	client := ClientConfig(mustCertificate(t, newKey(t)), mustKeyID(t, serverKey.Public()))
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1) // as a curious client would
	client.ServerName = "server.example"                        // what the cache goes by
	for range 2 {
		o := connect(t, server, client)
		if o.clientErr != nil || o.serverErr != nil || o.serverState.DidResume {
			t.Errorf("client: %v, server: %v, resumed: %v, want a full handshake", o.clientErr, o.serverErr, o.serverState.DidResume)
		}
	}
}

// TestA20 lists the peers that must be refused before any application byte.
func TestA20(t *testing.T) {
	serverKey, deviceKey := newKey(t), newKey(t)
	serverCert, deviceCert := *mustCertificate(t, serverKey), mustCertificate(t, deviceKey)
	serverID := mustKeyID(t, serverKey.Public())
	good := ServerConfig(serverCert)
	goodClient := func() *tls.Config { return ClientConfig(deviceCert, serverID) }

	// An authority that the client's system trusts, and a server it vouches for.
	authorityKey := newKey(t)
	authority := foreignCertificate(t, authorityKey)
	stranger := issue(t, newKey(t), authorityKey, authority.Leaf)
	pinnedAndTrusting := goodClient()
	pinnedAndTrusting.RootCAs = x509.NewCertPool()
	pinnedAndTrusting.RootCAs.AddCert(authority.Leaf)
	pinnedAndTrusting.ServerName = "stranger.example"

	old := func(config *tls.Config) *tls.Config {
		config = config.Clone()
		config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		return config
	}
	chain := func(cert tls.Certificate, more ...[]byte) tls.Certificate {
		cert.Certificate = append([][]byte{cert.Certificate[0]}, more...)
		return cert
	}
	// A certificate of the right key, shown by somebody who has another one.
	impostor := serverCert
	impostor.PrivateKey = newKey(t)
	impostor.Leaf = nil
	deviceImpostor := *deviceCert
	deviceImpostor.PrivateKey = newKey(t)
	deviceImpostor.Leaf = nil
	// showing answers with cert whatever the server asks for.
	showing := func(cert tls.Certificate) *tls.Config {
		config := goodClient()
		config.Certificates = nil
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		return config
	}
	garbage := *deviceCert
	garbage.Certificate = [][]byte{[]byte("no certificate")}
	garbage.Leaf = nil

	type peers struct{ server, client *tls.Config }
	cases := map[string]peers{
		"wrong pin":                       {good, ClientConfig(deviceCert, mustKeyID(t, newKey(t).Public()))},
		"no pin":                          {good, ClientConfig(deviceCert, "")},
		"device's own pin":                {good, ClientConfig(deviceCert, mustKeyID(t, deviceKey.Public()))},
		"CA-valid stranger":               {ServerConfig(stranger), pinnedAndTrusting},
		"CA-valid stranger with chain":    {ServerConfig(chain(stranger, authority.Certificate[0])), pinnedAndTrusting},
		"TLS 1.2 client":                  {good, old(goodClient())},
		"TLS 1.2 server":                  {old(good), goodClient()},
		"extra certificate of the server": {ServerConfig(chain(serverCert, deviceCert.Certificate[0])), goodClient()},
		"server's certificate second":     {ServerConfig(chain(stranger, serverCert.Certificate[0])), goodClient()},
		"extra certificate of the client": {good, showing(chain(*deviceCert, serverCert.Certificate[0]))},
		"client's certificate twice":      {good, showing(chain(*deviceCert, deviceCert.Certificate[0]))},
		"garbage behind the certificate":  {good, showing(chain(*deviceCert, []byte("garbage")))},
		"garbage for a certificate":       {good, showing(garbage)},
		"server without its private key":  {ServerConfig(impostor), goodClient()},
		"client without its private key":  {good, showing(deviceImpostor)},
		"plaintext client":                {good, nil},
		"plaintext server":                {nil, goodClient()},
		"roots do not know a pinned key":  {good, ClientConfigWithRoots(deviceCert, "127.0.0.1")},
		"roots and no server name":        {good, ClientConfigWithRoots(deviceCert, "")},
	}
	for name, key := range otherKeys(t) {
		cert := foreignCertificate(t, key)
		cases[name+" key of the client"] = peers{good, showing(cert)}
		cases[name+" key of the server"] = peers{ServerConfig(cert), goodClient()}
	}
	for name, p := range cases {
		o := connect(t, p.server, p.client)
		if p.server != nil && o.serverErr == nil {
			t.Errorf("%s: the server has no error", name)
		}
		if p.server != nil && len(o.serverRead) > 0 || bytes.Contains(o.serverRead, question) {
			t.Errorf("%s: the server read %q", name, o.serverRead)
		}
		if p.client != nil && o.clientErr == nil {
			t.Errorf("%s: the client has no error", name)
		}
		if p.client != nil && len(o.clientRead) > 0 {
			t.Errorf("%s: the client read %q", name, o.clientRead)
		}
		if bytes.Contains(o.clientRead, answer) {
			t.Errorf("%s: the client got the answer", name)
		}
		if p.client != nil && o.sent == 0 && name != "roots and no server name" {
			t.Errorf("%s: the client sent nothing at all, so nothing was tested", name)
		}
	}
}

func TestRoots(t *testing.T) {
	authorityKey := newKey(t)
	authority := foreignCertificate(t, authorityKey)
	known := issue(t, newKey(t), authorityKey, authority.Leaf)
	deviceKey := newKey(t)
	client := func(name string) *tls.Config {
		config := ClientConfigWithRoots(mustCertificate(t, deviceKey), name)
		// In the place of the system's roots, which a test cannot add to.
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AddCert(authority.Leaf)
		return config
	}
	o := connect(t, ServerConfig(known), client("stranger.example"))
	if o.clientErr != nil || o.serverErr != nil {
		t.Fatalf("client: %v, server: %v, want no errors", o.clientErr, o.serverErr)
	}
	if id, err := PeerKeyID(o.serverState); err != nil || id != mustKeyID(t, deviceKey.Public()) {
		t.Errorf("PeerKeyID = %q, %v, want the device", id, err)
	}
	old := ServerConfig(known)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, p := range map[string]struct{ server, client *tls.Config }{
		"other name":         {ServerConfig(known), client("other.example")},
		"other authority":    {ServerConfig(foreignCertificate(t, newKey(t))), client("stranger.example")},
		"TLS 1.2":            {old, client("stranger.example")},
		"system's own roots": {ServerConfig(known), ClientConfigWithRoots(nil, "stranger.example")},
	} {
		o := connect(t, p.server, p.client)
		if o.clientErr == nil || o.serverErr == nil || len(o.serverRead)+len(o.clientRead) > 0 {
			t.Errorf("%s: client: %v, server: %v, read %q and %q, want two errors and nothing read", name, o.clientErr, o.serverErr, o.clientRead, o.serverRead)
		}
	}
}

// TestHardwareKey: a key that is no *ecdsa.PrivateKey serves both sides.
func TestHardwareKey(t *testing.T) {
	type opaque struct{ crypto.Signer }
	serverKey, deviceKey := opaque{newKey(t)}, opaque{newKey(t)}
	o := connect(t, ServerConfig(*mustCertificate(t, serverKey)), ClientConfig(mustCertificate(t, deviceKey), mustKeyID(t, serverKey.Public())))
	if o.clientErr != nil || o.serverErr != nil {
		t.Fatalf("client: %v, server: %v, want no errors", o.clientErr, o.serverErr)
	}
	if key, ok := o.serverState.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey); !ok || !key.Equal(deviceKey.Public()) {
		t.Errorf("the server saw the key %v, want the device's", key)
	}
}
