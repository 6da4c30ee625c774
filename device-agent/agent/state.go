package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/proquint"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// The directory of a device:
//
//	device.json   what it is and where its server is   mode 0600
//	counter       number of its last statement
//	offline.key   what its offline codes are made from, sealed by its keys
//	clock         by how much its clock was wrong when that was last known
//	notices       which notices of the server were shown
//	lock          held while the files above change
//	statements.lock  held while a statement is signed and sent
//	record        what it remembers of the server's record, see record.go
//	record-alarm  there only if that was changed
//	keys.pem      or keys.age, see package keystore
//
// device.json is written when the keys are durable and before the server is
// asked (phase "enrolling" with an invitation, "asking" for approval by a trusted
// device, "recovering" with a recovery code, which is not in it), and again when the
// server has said yes ("trusted"). offline.key is written when the server has handed
// it over, before that.
// So a device that the server believes in always has its keys, and what was begun can
// be finished after a crash at any point.
const stateName = "device.json"

// ErrNotEnrolled is wrapped when a directory holds no device.
var ErrNotEnrolled = errors.New("this device is not enrolled: get an invitation, or ask your other devices with --server and --account, and run countersign-agent enroll; or, if it was enrolled in another directory, name that with --dir")

// The phases of a device.
const (
	Enrolling  = "enrolling"  // the server was or will be asked; the answer is not known
	Asked      = "asking"     // the account's devices were or will be asked; nothing is known yet
	Recovering = "recovering" // a recovery code was or will be handed in; the answer is not known, or is to wait
	Trusted    = "trusted"    // the server said yes
)

// A State is what is known of this device without the network. Its JSON form
// is that of device.json.
type State struct {
	Account    string `json:"account,omitempty"`    // unknown in phase Enrolling
	Deployment string `json:"deployment"`           // deployment id of the server
	Device     string `json:"device"`               // device id
	Invitation string `json:"invitation,omitempty"` // token, in phase Enrolling
	Kind       string `json:"kind"`                 // terminal, desktop, phone, tablet, watch, other
	Name       string `json:"name"`
	Phase      string `json:"phase"`
	Pin        string `json:"pin,omitempty"` // key id of the server's TLS key, or else:

	// In phase Asked, once the server has answered: the id of the request to
	// be trusted, and when it ends, in Unix seconds by the server's clock.
	Request        string `json:"request,omitempty"`
	RequestExpires int64  `json:"request_expires,omitempty"`

	// In phase Recovering, if the server has taken the code and this device
	// must wait: until when, in Unix seconds by the server's clock.
	TrustTime int64 `json:"trust_time,omitempty"`

	Roots   string `json:"roots,omitempty"` // "system": the system's roots vouch for the server
	Server  string `json:"server"`          // host and port
	Version int    `json:"version"`         // 1
}

// LoadState returns what the directory says of its device. The error wraps
// [ErrNotEnrolled] if it says nothing.
func LoadState(dir string) (State, error) {
	path := filepath.Join(dir, stateName)
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("%s: %w", dir, ErrNotEnrolled)
	}
	if err != nil {
		return State{}, fmt.Errorf("reading the device's state: %w", err)
	}
	s, err := parseState(data)
	if err != nil {
		return State{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

var errState = errors.New("the file is damaged or was written by a newer version: restore it, update this program, or move its directory away and enrol this device anew")

// parseState is the inverse of encode and accepts nothing but its results.
func parseState(data []byte) (State, error) {
	var s State
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil || !s.valid() {
		return State{}, errState
	}
	if again, err := s.encode(); err != nil || !bytes.Equal(again, data) {
		return State{}, errState
	}
	return s, nil
}

func (s State) encode() ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(s)
	return b.Bytes(), err
}

// save makes s durable. The caller holds the lock.
func (s State) save(dir string) error {
	data, err := s.encode()
	if err == nil {
		_, err = parseState(data) // never write what cannot be read again
	}
	if err == nil {
		err = writeFile(dir, stateName, data)
	}
	if err != nil {
		return fmt.Errorf("writing the device's state: %w", err)
	}
	return nil
}

func (s State) valid() bool {
	switch s.Phase {
	case Enrolling:
		if s.Account != "" || s.Invitation == "" {
			return false
		}
	case Trusted:
		if !statement.ValidAccount(s.Account) || s.Invitation != "" {
			return false
		}
	case Recovering:
		if !statement.ValidAccount(s.Account) || s.Invitation != "" {
			return false
		}
	case Asked:
		if !statement.ValidAccount(s.Account) || s.Invitation != "" || s.Request != "" && !statement.ValidSignIn(s.Request) {
			return false
		}
	default:
		return false
	}
	if (s.Request != "") != (s.RequestExpires > 0) || s.RequestExpires < 0 || s.Request != "" && s.Phase != Asked {
		return false
	}
	if s.TrustTime < 0 || s.TrustTime > 0 && s.Phase != Recovering {
		return false
	}
	// A link has the same fields under the same rules; one token is as good
	// as another here.
	link := s.link()
	if link.Token == "" {
		link.Token = invitation.NewToken()
	}
	parsed, err := invitation.Parse(link.URL())
	return err == nil && parsed == link &&
		s.Version == 1 &&
		pin.ValidKeyID(s.Device) &&
		(s.Pin != "") != (s.Roots == "system") && (s.Pin == "" || s.Roots == "") &&
		validName(s.Name) == nil && validKind(s.Kind)
}

// link returns the invitation that the state holds.
func (s State) link() invitation.Link {
	return invitation.Link{Server: s.Server, Deployment: s.Deployment, Pin: s.Pin, Token: s.Invitation}
}

// server returns how the state knows its server.
func (s State) server() Server { return Server{Address: s.Server, Pin: s.Pin} }

// Fingerprint returns the form of a key id in which people compare it on two
// screens: four words, which are 64 bits. It is "" if id is no key id.
func Fingerprint(id string) string { return proquint.OfKey(id) }

func validName(name string) error {
	if name == "" {
		return errors.New("the device needs a name")
	}
	return text.Check(name)
}

// kinds are the kinds of devices, as an enrolment says them.
var kinds = []string{"terminal", "desktop", "phone", "tablet", "watch", "other"}

func validKind(kind string) bool { return slices.Contains(kinds, kind) }
