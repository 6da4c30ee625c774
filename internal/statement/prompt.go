package statement

import "github.com/countersignd/countersign/internal/pin"

// The actions that a prompt asks about.
const (
	ActionSignIn      = "sign_in"      // may somebody sign in to an application?
	ActionTrustDevice = "trust_device" // may a new device be trusted?
)

const (
	// maxPrompt is the largest length of an encoded prompt in bytes.
	maxPrompt = 4 << 10

	// maxPromptLife is how many seconds a prompt may live: 10 minutes for the
	// whole flow (NIST SP 800-63B-4, 3.1.3.2).
	maxPromptLife = 600
)

// A Prompt is what one device shows the person: made by the server, delivered as
// bytes, and signed as those very bytes inside the [Decision]. All of its texts
// but the application's name were chosen by whoever asks.
type Prompt struct {
	Account     string      `json:"account"`
	Action      string      `json:"action"` // ActionSignIn or ActionTrustDevice
	Application Application `json:"application"`
	Candidate   *Candidate  `json:"candidate,omitempty"` // with ActionTrustDevice, and only then
	Created     int64       `json:"created"`             // Unix seconds
	Expires     int64       `json:"expires"`             // Unix seconds, at most 600 after Created
	Message     string      `json:"message"`             // may be empty
	Nonce       string      `json:"nonce"`               // base64url of 32 bytes, of this sign-in and device
	Requester   Requester   `json:"requester"`
	SignIn      string      `json:"sign_in"`
	V           int         `json:"v"` // 1
}

// An Application is the registered application that asks. For
// [ActionTrustDevice] both members may be empty; never one alone.
type Application struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// A Requester is what is known of the one who signs in. Each member may be empty.
type Requester struct {
	Address string `json:"address"`
	Device  string `json:"device"`
	Place   string `json:"place"`
	Program string `json:"program"`
}

// A Candidate is the device that asks to be trusted.
type Candidate struct {
	Fingerprint string `json:"fingerprint"` // key id
	Kind        string `json:"kind"`        // as in Enrollment
	Name        string `json:"name"`
}

// Encode returns the prompt in canonical form. It checks nothing: the maker of a
// prompt must see that [ParsePrompt] accepts the result.
func (p Prompt) Encode() []byte { return Encode(p) }

// ParsePrompt returns the prompt that b spells, which must be in canonical form,
// at most 4 KiB long, and hold well-formed members. It does not look at the clock.
func ParsePrompt(b []byte) (Prompt, error) {
	if len(b) > maxPrompt {
		return Prompt{}, refuse("a prompt of %d bytes, more than %d", len(b), maxPrompt)
	}
	p, err := Decode[Prompt](b)
	if err != nil {
		return Prompt{}, err
	}
	if err := p.check(); err != nil {
		return Prompt{}, err
	}
	return p, nil
}

func (p Prompt) check() error {
	candidate := p.Candidate == nil
	application := ValidApplication(p.Application.ID) && p.Application.Name != ""
	if p.Action == ActionTrustDevice {
		candidate = p.Candidate != nil && p.Candidate.valid()
		application = application || p.Application == Application{}
	}
	return obey(
		rule{"v", p.V == 1},
		rule{"account", ValidAccount(p.Account)},
		rule{"action", p.Action == ActionSignIn || p.Action == ActionTrustDevice},
		rule{"application", application && validText(p.Application.Name)},
		rule{"candidate", candidate},
		rule{"created", validTime(p.Created)},
		rule{"expires", validTime(p.Expires) && p.Created < p.Expires && p.Expires-p.Created <= maxPromptLife},
		rule{"message", validText(p.Message)},
		rule{"nonce", validNonce(p.Nonce)},
		rule{"requester", p.Requester.valid()},
		rule{"sign_in", ValidSignIn(p.SignIn)},
	)
}

func (r Requester) valid() bool {
	return validText(r.Address) && validText(r.Device) && validText(r.Place) && validText(r.Program)
}

func (c Candidate) valid() bool {
	return pin.ValidKeyID(c.Fingerprint) && validKind(c.Kind) && c.Name != "" && validText(c.Name)
}
