// Package invitation reads and writes the link that brings the first device of
// an account in. An administrator makes it; it travels as text or as a QR code:
//
//	countersign://HOST:PORT/enroll?id=DEPLOYMENT&pin=KEYID&token=TOKEN
//	countersign://HOST:PORT/enroll?id=DEPLOYMENT&roots=system&token=TOKEN
//
// The link says where the server is, which deployment it must be, how to know
// it (by the key id of its TLS key, or by the system's certificate roots) and
// the token that is good for one device. Whoever has the token first gets in, so
// a [Link] hides it from fmt and slog, and no error repeats it. The server
// stores the token's hash only.
//
// Parsing is strict, since a link that was cut or altered on its way must be
// noticed: each parameter once and in any order, none unknown, nothing escaped.
package invitation

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
)

// maxLink is more than any link has: a host name has at most 253 bytes.
const maxLink = 512

// tokenLen is the length of a token: 26 characters of base32, 130 bits.
const tokenLen = 26

// A Link is an invitation. The zero Link is none; [Parse] refuses what its URL gives.
//
// Formatting a Link with fmt (with any verb), logging it with slog, or encoding
// it as JSON shows everything but the token. This protects the Link itself and
// the exported fields of a struct, but fmt cannot be kept from looking into
// unexported ones: do not print a struct that holds a Link in such a field.
type Link struct {
	// Server is the host and port of the server: "host.example:8443",
	// "192.0.2.7:8443" or "[2001:db8::7]:8443".
	Server string

	// Deployment is the deployment id of the server.
	Deployment string

	// Pin is the key id of the server's TLS key. Empty means that the
	// server's certificate is checked with the system's roots instead.
	Pin string

	// Token is the secret that is good for one device.
	Token string
}

// URL returns the link as it is handed over, with its secret token.
func (l Link) URL() string { return l.spell(l.Token) }

// String returns the link with its token left out.
func (l Link) String() string { return l.spell("(hidden)") }

// Format prints the link with its token left out, whatever the verb.
func (l Link) Format(f fmt.State, verb rune) { fmt.Fprint(f, l.String()) }

// LogValue returns the link with its token left out.
func (l Link) LogValue() slog.Value { return slog.StringValue(l.String()) }

// MarshalText returns the link with its token left out, so that a log line that
// encodes a struct around it does not show it. There is no way back.
func (l Link) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

func (l Link) spell(token string) string {
	trust := "roots=system"
	if l.Pin != "" {
		trust = "pin=" + l.Pin
	}
	return "countersign://" + l.Server + "/enroll?id=" + l.Deployment + "&" + trust + "&token=" + token
}

// Parse reads a link as a person pasted it; white space around it is ignored.
// The error is a sentence for this person. It repeats nothing of the link,
// since the token may be anywhere in a link that is damaged.
func Parse(s string) (Link, error) {
	s = strings.TrimSpace(s)
	rest, ok := strings.CutPrefix(s, "countersign://")
	switch {
	case s == "":
		return Link{}, errors.New("there is no invitation link: copy the whole link that begins with countersign://")
	case !ok:
		return Link{}, errors.New("this is not an invitation link: copy the whole link that begins with countersign://")
	case len(s) > maxLink:
		return Link{}, errors.New("this is too long for an invitation link: copy the link alone, without the text around it")
	case strings.ContainsFunc(s, outside):
		return Link{}, errors.New("the invitation link contains characters that do not belong there, such as a space or a line break: copy the link alone, in one piece")
	}
	server, query, ok := strings.Cut(rest, "/enroll?")
	if !ok {
		return Link{}, errors.New("the invitation link is not complete: copy the whole link")
	}
	if !validServer(server) {
		return Link{}, errors.New("the invitation link does not say which server and port to reach: copy the whole link, or ask for a new one")
	}
	link, err := parseQuery(query)
	link.Server = server
	if err != nil {
		return Link{}, err
	}
	return link, nil
}

// outside reports whether r cannot be in a link: not printable ASCII, or a space.
func outside(r rune) bool { return r <= ' ' || r > '~' }

func parseQuery(query string) (Link, error) {
	values := make(map[string]string)
	for param := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(param, "=")
		var valid bool
		switch name {
		case "id":
			valid = statement.ValidDeployment(value)
		case "pin":
			valid = pin.ValidKeyID(value)
		case "roots":
			valid = value == "system"
		case "token":
			valid = validToken(value)
		default:
			return Link{}, errors.New("the invitation link contains a part that this version does not know: copy the link alone, or update this program")
		}
		if !valid {
			return Link{}, fmt.Errorf("the invitation link is damaged in its part %q: copy the whole link", name)
		}
		if _, twice := values[name]; twice {
			return Link{}, fmt.Errorf("the invitation link has its part %q twice: copy the link once", name)
		}
		values[name] = value
	}
	link := Link{Deployment: values["id"], Pin: values["pin"], Token: values["token"]}
	if link.Deployment == "" || link.Token == "" {
		return Link{}, errors.New("the invitation link is not complete: copy the whole link")
	}
	// One of the two, never both: else it would be open which one counts.
	if (values["pin"] == "") == (values["roots"] == "") {
		return Link{}, errors.New("the invitation link does not say in one way how to know the server: copy the whole link, or ask for a new one")
	}
	return link, nil
}

// validServer reports whether s is a host and a port, spelled in a way that every
// resolver takes for the same host.
func validServer(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return false
	}
	if strings.HasPrefix(s, "[") {
		addr, err := netip.ParseAddr(host)
		return err == nil && addr.Is6() && addr.Zone() == ""
	}
	return validHost(host)
}

// validHost reports whether host is an IPv4 address or a host name. A name whose
// last label is a number is an address to some programs (inet_aton reads "127.1"
// and "0x7f000001"), so it must be one to us, in the usual spelling.
func validHost(host string) bool {
	if len(host) > 253 {
		return false
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, notHostRune) {
			return false
		}
	}
	last := strings.ToLower(labels[len(labels)-1])
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		addr, err := netip.ParseAddr(host)
		return err == nil && addr.Is4()
	}
	return true
}

// notHostRune lets the underscore pass: networks of containers have such names.
func notHostRune(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
		return false
	}
	return true
}

// NewToken returns a fresh token: 26 characters of lower-case base32, 130 random
// bits. With 112 or more, NIST SP 800-63B-4 (3.1.2.2) lets a plain hash be stored.
func NewToken() string { return strings.ToLower(rand.Text()) }

func validToken(s string) bool {
	if len(s) != tokenLen {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || '2' <= c && c <= '7') {
			return false
		}
	}
	return true
}

// Hash returns what the server stores of a token and the device signs in its
// enrollment statement: the SHA-256 of the token, behind a prefix that keeps it
// apart from every other hash, as 52 characters of lower-case base32. It needs
// neither salt nor work factor, since nobody can try 2¹³⁰ tokens.
func Hash(token string) string {
	sum := sha256.Sum256([]byte("countersign invitation v1\x00" + token))
	return pin.Base32.EncodeToString(sum[:])
}
