package statement

import (
	"slices"
	"strings"

	"github.com/countersignd/countersign/internal/pin"
)

// The answers to a prompt, and the reasons that may come with Deny. The empty
// string is none of them, so what was never set allows nothing.
const (
	Allow = "allow"
	Deny  = "deny"

	Mistake = "mistake" // the owner asked, by accident
	NotMe   = "not_me"  // somebody else asked
)

// An Enrollment announces a device: signed by the approval key that it carries,
// it binds that key to the identity key that the device id is. The device holds
// an invitation, a recovery code of Account, or the hope that a trusted device of
// Account approves it.
type Enrollment struct {
	Account     string `json:"account,omitempty"`    // either this, with or without Recovery …
	ApprovalKey JWK    `json:"approval_key"`         // not the identity key
	Aud         string `json:"aud"`                  // deployment id
	Device      string `json:"device"`               // device id: key id of the identity key
	Iat         int64  `json:"iat"`                  // Unix seconds
	Invitation  string `json:"invitation,omitempty"` // … or this: the hash of the token (package invitation)
	KeyStorage  string `json:"key_storage"`          // file, keyring, tpm
	Kind        string `json:"kind"`                 // terminal, desktop, phone, tablet, watch, other
	Name        string `json:"name"`                 // chosen by the device's owner
	Recovery    string `json:"recovery,omitempty"`   // hash of the recovery code (package recovery)
	ServerKey   string `json:"server_key"`           // key id of the server's TLS key, as the agent saw it
}

// A Decision is the owner's answer to a prompt on one device.
type Decision struct {
	Account     string `json:"account"`          // as in the prompt
	Application string `json:"application"`      // id, as in the prompt
	ApprovalKey string `json:"approval_key"`     // key id
	Aud         string `json:"aud"`              // deployment id
	Counter     uint64 `json:"counter"`          // rises with each statement of the device; 1 to 2⁵³-1
	Decision    string `json:"decision"`         // Allow or Deny
	Device      string `json:"device"`           // device id
	Iat         int64  `json:"iat"`              // Unix seconds
	Nonce       string `json:"nonce"`            // as in the prompt
	Prompt      string `json:"prompt"`           // base64url of the prompt's bytes as they were received
	Reason      string `json:"reason,omitempty"` // Mistake or NotMe, with Deny only
	ServerKey   string `json:"server_key"`       // key id of the server's TLS key, as the agent saw it
	SignIn      string `json:"sign_in"`          // as in the prompt
}

// PromptBytes returns the bytes of the prompt, or nil if they are not well encoded.
func (d Decision) PromptBytes() []byte {
	b, err := decode64(d.Prompt)
	if err != nil {
		return nil
	}
	return b
}

// A CodeRequest asks the server for a verification code.
type CodeRequest struct {
	Account     string `json:"account"`
	ApprovalKey string `json:"approval_key"` // key id
	Aud         string `json:"aud"`          // deployment id
	Counter     uint64 `json:"counter"`      // as in Decision
	Device      string `json:"device"`       // device id
	Iat         int64  `json:"iat"`          // Unix seconds
	ServerKey   string `json:"server_key"`   // as in Decision
}

// A RecoveryRenewal asks the server for new recovery codes, which void all those
// before.
type RecoveryRenewal struct {
	Account     string `json:"account"`
	ApprovalKey string `json:"approval_key"` // key id
	Aud         string `json:"aud"`          // deployment id
	Counter     uint64 `json:"counter"`      // as in Decision
	Device      string `json:"device"`       // device id
	Iat         int64  `json:"iat"`          // Unix seconds
	ServerKey   string `json:"server_key"`   // as in Decision
}

// A Revocation ends the trust in a device of the same account, maybe the signing one.
type Revocation struct {
	Account     string `json:"account"`
	ApprovalKey string `json:"approval_key"`     // key id
	Aud         string `json:"aud"`              // deployment id
	Counter     uint64 `json:"counter"`          // as in Decision
	Device      string `json:"device"`           // device id of the signing device
	Iat         int64  `json:"iat"`              // Unix seconds
	Reason      string `json:"reason,omitempty"` // text, at most 256 bytes
	Revoked     string `json:"revoked"`          // device id
	ServerKey   string `json:"server_key"`       // as in Decision
}

// A Readmission lets a device of the same account count again that was not seen for
// long. It is another type than a Revocation, so that neither passes for the other.
type Readmission struct {
	Account     string `json:"account"`
	ApprovalKey string `json:"approval_key"` // key id
	Aud         string `json:"aud"`          // deployment id
	Counter     uint64 `json:"counter"`      // as in Decision
	Device      string `json:"device"`       // device id of the signing device
	Iat         int64  `json:"iat"`          // Unix seconds
	Readmitted  string `json:"readmitted"`   // device id, not the signing device's
	ServerKey   string `json:"server_key"`   // as in Decision
}

// An Unlock asks the server to forget the account's wrong codes, gaps and silences.
type Unlock struct {
	Account     string `json:"account"`
	ApprovalKey string `json:"approval_key"` // key id
	Aud         string `json:"aud"`          // deployment id
	Counter     uint64 `json:"counter"`      // as in Decision
	Device      string `json:"device"`       // device id
	Iat         int64  `json:"iat"`          // Unix seconds
	ServerKey   string `json:"server_key"`   // as in Decision
}

// A Grant tells an application that a sign-in was verified. It is signed by the
// server and is a JWT (RFC 7519).
type Grant struct {
	Acr      string   `json:"acr"`        // urn:countersign:acr:… in lower-case letters; never recovery
	Amr      []string `json:"amr"`        // how, by RFC 8176: one to eight, none twice
	Aud      string   `json:"aud"`        // application id
	AuthTime int64    `json:"auth_time"`  // Unix seconds
	Exp      int64    `json:"exp"`        // Unix seconds, after Iat
	Iat      int64    `json:"iat"`        // Unix seconds
	Iss      string   `json:"iss"`        // deployment id
	Jti      string   `json:"jti"`        // 1 to 64 of A-Z a-z 0-9 - _
	SignInID string   `json:"sign_in_id"` // sign-in id
	Sub      string   `json:"sub"`        // account
}

// A Checkpoint says what the server's record is at a moment: how many records it
// has and the root of the Merkle tree over them (RFC 6962, 2.1). It is signed by the
// server with the key that signs grants.
type Checkpoint struct {
	Iat  int64  `json:"iat"`  // Unix seconds
	Iss  string `json:"iss"`  // deployment id
	Root string `json:"root"` // base64url of 32 bytes
	Size uint64 `json:"size"` // 1 to 2⁵³-1
}

func (Enrollment) typ() string      { return "countersign-enrollment+jws" }
func (Decision) typ() string        { return "countersign-decision+jws" }
func (CodeRequest) typ() string     { return "countersign-code-request+jws" }
func (RecoveryRenewal) typ() string { return "countersign-recovery-renewal+jws" }
func (Revocation) typ() string      { return "countersign-revocation+jws" }
func (Readmission) typ() string     { return "countersign-readmission+jws" }
func (Unlock) typ() string          { return "countersign-unlock+jws" }
func (Grant) typ() string           { return "countersign-grant+jwt" }
func (Checkpoint) typ() string      { return "countersign-checkpoint+jws" }

func (e Enrollment) keys(string) (kid, signedBy string)      { return e.Device, e.ApprovalKey.keyID() }
func (d Decision) keys(string) (kid, signedBy string)        { return d.Device, d.ApprovalKey }
func (c CodeRequest) keys(string) (kid, signedBy string)     { return c.Device, c.ApprovalKey }
func (r RecoveryRenewal) keys(string) (kid, signedBy string) { return r.Device, r.ApprovalKey }
func (r Revocation) keys(string) (kid, signedBy string)      { return r.Device, r.ApprovalKey }
func (r Readmission) keys(string) (kid, signedBy string)     { return r.Device, r.ApprovalKey }

func (u Unlock) keys(string) (kid, signedBy string) { return u.Device, u.ApprovalKey }

// What the server signs names no key in its payload: its kid is the key itself.
func (Grant) keys(keyID string) (kid, signedBy string)      { return keyID, keyID }
func (Checkpoint) keys(keyID string) (kid, signedBy string) { return keyID, keyID }

func (e Enrollment) check() error {
	approval := e.ApprovalKey.keyID()
	return obey(
		// Two keys, since one of them answers to any TLS server that asks,
		// and the other signs decisions and nothing else.
		rule{"approval_key", approval != "" && approval != e.Device},
		rule{"account", (e.Account != "") != (e.Invitation != "") && (e.Account == "" || ValidAccount(e.Account))},
		rule{"aud", ValidDeployment(e.Aud)},
		rule{"device", pin.ValidKeyID(e.Device)},
		rule{"iat", validTime(e.Iat)},
		// A hash of SHA-256 is spelled like a key id.
		rule{"invitation", e.Invitation == "" || pin.ValidKeyID(e.Invitation)},
		rule{"key_storage", slices.Contains([]string{"file", "keyring", "tpm"}, e.KeyStorage)},
		rule{"kind", validKind(e.Kind)},
		rule{"name", e.Name != "" && validText(e.Name)},
		rule{"recovery", e.Recovery == "" || pin.ValidKeyID(e.Recovery) && e.Account != ""},
		rule{"server_key", pin.ValidKeyID(e.ServerKey)},
	)
}

func (d Decision) check() error {
	answer := d.Decision == Allow && d.Reason == "" ||
		d.Decision == Deny && slices.Contains([]string{"", Mistake, NotMe}, d.Reason)
	if err := obey(
		rule{"approval_key", pin.ValidKeyID(d.ApprovalKey)},
		rule{"aud", ValidDeployment(d.Aud)},
		rule{"counter", validCounter(d.Counter)},
		rule{"decision", answer},
		rule{"device", pin.ValidKeyID(d.Device)},
		rule{"iat", validTime(d.Iat)},
		rule{"server_key", pin.ValidKeyID(d.ServerKey)},
	); err != nil {
		return err
	}
	bytes, err := decode64(d.Prompt)
	if err != nil {
		return err
	}
	prompt, err := ParsePrompt(bytes)
	if err != nil {
		return err
	}
	// The forms of these four are checked by ParsePrompt.
	return obey(
		rule{"account", d.Account == prompt.Account},
		rule{"application", d.Application == prompt.Application.ID},
		rule{"nonce", d.Nonce == prompt.Nonce},
		rule{"sign_in", d.SignIn == prompt.SignIn},
	)
}

func (c CodeRequest) check() error {
	return obey(
		rule{"account", ValidAccount(c.Account)},
		rule{"approval_key", pin.ValidKeyID(c.ApprovalKey)},
		rule{"aud", ValidDeployment(c.Aud)},
		rule{"counter", validCounter(c.Counter)},
		rule{"device", pin.ValidKeyID(c.Device)},
		rule{"iat", validTime(c.Iat)},
		rule{"server_key", pin.ValidKeyID(c.ServerKey)},
	)
}

func (r RecoveryRenewal) check() error { return CodeRequest(r).check() }

func (r Revocation) check() error {
	return obey(
		rule{"account", ValidAccount(r.Account)},
		rule{"approval_key", pin.ValidKeyID(r.ApprovalKey)},
		rule{"aud", ValidDeployment(r.Aud)},
		rule{"counter", validCounter(r.Counter)},
		rule{"device", pin.ValidKeyID(r.Device)},
		rule{"iat", validTime(r.Iat)},
		rule{"reason", validText(r.Reason)},
		rule{"revoked", pin.ValidKeyID(r.Revoked)},
		rule{"server_key", pin.ValidKeyID(r.ServerKey)},
	)
}

func (r Readmission) check() error {
	return obey(
		rule{"account", ValidAccount(r.Account)},
		rule{"approval_key", pin.ValidKeyID(r.ApprovalKey)},
		rule{"aud", ValidDeployment(r.Aud)},
		rule{"counter", validCounter(r.Counter)},
		rule{"device", pin.ValidKeyID(r.Device)},
		rule{"iat", validTime(r.Iat)},
		// No device vouches for itself.
		rule{"readmitted", pin.ValidKeyID(r.Readmitted) && r.Readmitted != r.Device},
		rule{"server_key", pin.ValidKeyID(r.ServerKey)},
	)
}

func (u Unlock) check() error {
	return obey(
		rule{"account", ValidAccount(u.Account)},
		rule{"approval_key", pin.ValidKeyID(u.ApprovalKey)},
		rule{"aud", ValidDeployment(u.Aud)},
		rule{"counter", validCounter(u.Counter)},
		rule{"device", pin.ValidKeyID(u.Device)},
		rule{"iat", validTime(u.Iat)},
		rule{"server_key", pin.ValidKeyID(u.ServerKey)},
	)
}

func (g Grant) check() error {
	return obey(
		rule{"acr", validACR(g.Acr)},
		rule{"amr", validAMR(g.Amr)},
		rule{"aud", ValidApplication(g.Aud)},
		rule{"auth_time", validTime(g.AuthTime)},
		rule{"exp", validTime(g.Exp) && g.Exp > g.Iat},
		rule{"iat", validTime(g.Iat)},
		rule{"iss", ValidDeployment(g.Iss)},
		rule{"jti", 1 <= len(g.Jti) && len(g.Jti) <= 64 && consists(g.Jti, lower+strings.ToUpper(lower)+digits+"-_")},
		rule{"sign_in_id", ValidSignIn(g.SignInID)},
		rule{"sub", ValidAccount(g.Sub)},
	)
}

func (c Checkpoint) check() error {
	return obey(
		rule{"iat", validTime(c.Iat)},
		rule{"iss", ValidDeployment(c.Iss)},
		// A hash of SHA-256 is spelled like a nonce here.
		rule{"root", validNonce(c.Root)},
		rule{"size", validCounter(c.Size)},
	)
}

// validACR reports whether s names an assurance. A recovery is refused here too:
// it brings a device back and never signs anybody in.
func validACR(s string) bool {
	name, ok := strings.CutPrefix(s, "urn:countersign:acr:")
	return ok && word(name) && name != "recovery"
}

func validAMR(methods []string) bool {
	if len(methods) == 0 || len(methods) > 8 {
		return false
	}
	for i, m := range methods {
		if !word(m) || slices.Contains(methods[:i], m) {
			return false
		}
	}
	return true
}

// word reports whether s is 1 to 16 lower-case letters.
func word(s string) bool { return 1 <= len(s) && len(s) <= 16 && consists(s, lower) }
