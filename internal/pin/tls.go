package pin

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// maxName is the length of a common name (RFC 5280, appendix A, ub-common-name).
const maxName = 64

// Certificate returns a certificate for key, signed by key itself, that serves
// both sides of a connection. The name is for people who look at it; nobody
// checks it. It may be empty and has at most 64 bytes.
//
// The certificate holds from 1970 to the end of 9999, which is how X.509 says
// "no well-defined expiration" (RFC 5280, 4.1.2.5): the dates of a pinned
// certificate are not checked, and a machine whose clock starts at 1970 must
// still be able to connect through software that checks them.
func Certificate(key crypto.Signer, name string) (tls.Certificate, error) {
	if _, err := KeyID(key.Public()); err != nil {
		return tls.Certificate{}, err
	}
	if len(name) > maxName || !utf8.ValidString(name) {
		return tls.Certificate{}, fmt.Errorf("the name of a certificate must be UTF-8 of at most %d bytes", maxName)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Unix(0, 0).UTC(),
		NotAfter:              time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("creating certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("reading back certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// ServerConfig returns the configuration of a server that shows cert. A client
// may show no certificate (an application, or a device that enrols) or exactly
// one with a P-256 key; anything else ends the handshake. Which key it was,
// [PeerKeyID] tells; whether this key may do what it asks, the server decides.
func ServerConfig(cert tls.Certificate) *tls.Config {
	config := base(&cert)
	// Not RequireAnyClientCert, because applications show none; and not one
	// of the verifying modes, because there is no authority to verify against.
	config.ClientAuth = tls.RequestClientCert
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		_, err := PeerKeyID(cs)
		return err
	}
	return config
}

// ClientConfig returns the configuration of a client that accepts one server
// only: the one with the key id serverKey. The client shows cert, or no
// certificate if cert is nil. If serverKey is not a key id, every handshake fails.
func ClientConfig(cert *tls.Certificate, serverKey string) *tls.Config {
	config := base(cert)
	// This turns off chain and host name checks, which have no meaning for a
	// pinned key. It does not turn off VerifyConnection, nor the check that
	// the server holds the private key of the certificate.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		got, err := PeerKeyID(cs)
		if err != nil {
			return err
		}
		if got != serverKey {
			return errors.New("the server's key is not the expected one: " +
				"it is another server, or its key was replaced; ask its administrator before going on")
		}
		return nil
	}
	return config
}

// ClientConfigWithRoots returns the configuration of a client that accepts a
// server whose certificate the system's roots vouch for, under serverName. The
// client shows cert, or no certificate if cert is nil. An empty serverName is
// taken from the address that is dialled, and the handshake fails if there is none.
func ClientConfigWithRoots(cert *tls.Certificate, serverName string) *tls.Config {
	config := base(cert)
	config.ServerName = serverName
	return config
}

// base is what both sides have in common: TLS 1.3 and HTTP/2, no tickets.
func base(cert *tls.Certificate) *tls.Config {
	config := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		MaxVersion:             tls.VersionTLS13,
		NextProtos:             []string{"h2"},
		SessionTicketsDisabled: true,
	}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	return config
}
