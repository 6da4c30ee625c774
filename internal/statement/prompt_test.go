package statement

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPromptRoundTrips(t *testing.T) {
	empty := signInPrompt()
	empty.Requester = Requester{}
	fromApplication := trustPrompt()
	fromApplication.Application = signInPrompt().Application
	for _, want := range []Prompt{signInPrompt(), trustPrompt(), empty, fromApplication} {
		got, err := ParsePrompt(want.Encode())
		if err != nil {
			t.Errorf("ParsePrompt(%s) = %v", want.Encode(), err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParsePrompt (-want +got):\n%s", diff)
		}
	}
}

func TestPromptSpelling(t *testing.T) {
	want := `{"account":"ada","action":"trust_device","application":{"id":"","name":""},` +
		`"candidate":{"fingerprint":"` + other + `","kind":"phone","name":"Ada's phone"},` +
		`"created":1799999990,"expires":1800000290,"message":"","nonce":"` + nonce + `",` +
		`"requester":{"address":"192.0.2.7","device":"Ada's \"Laptop\"","place":"Zürich","program":"Firefox"},` +
		`"sign_in":"` + signInID + `","v":1}`
	if diff := cmp.Diff(want, string(trustPrompt().Encode())); diff != "" {
		t.Errorf("Encode (-want +got):\n%s", diff)
	}
}

func TestPromptRules(t *testing.T) {
	long := strings.Repeat("a", 257)
	changes := map[string]func(*Prompt){
		"no version":               func(p *Prompt) { p.V = 0 },
		"version 2":                func(p *Prompt) { p.V = 2 },
		"no account":               func(p *Prompt) { p.Account = "" },
		"malformed account":        func(p *Prompt) { p.Account = "Ada" },
		"no action":                func(p *Prompt) { p.Action = "" },
		"unknown action":           func(p *Prompt) { p.Action = "delete_account" },
		"no application":           func(p *Prompt) { p.Application = Application{} },
		"application without name": func(p *Prompt) { p.Application.Name = "" },
		"application without id":   func(p *Prompt) { p.Application.ID = "" },
		"application name long":    func(p *Prompt) { p.Application.Name = long },
		"candidate of a sign-in":   func(p *Prompt) { p.Candidate = trustPrompt().Candidate },
		"never created":            func(p *Prompt) { p.Created = 0 },
		"expires at once":          func(p *Prompt) { p.Expires = p.Created },
		"expires before":           func(p *Prompt) { p.Expires = p.Created - 1 },
		"never expires":            func(p *Prompt) { p.Expires = 1<<63 - 1 },
		"lives too long":           func(p *Prompt) { p.Expires = p.Created + 601 },
		"before 1970":              func(p *Prompt) { p.Created, p.Expires = -300, 300 },
		"overflow":                 func(p *Prompt) { p.Created, p.Expires = -1<<63, 300 },
		"message with line break":  func(p *Prompt) { p.Message = "a\nb" },
		"message with separator":   func(p *Prompt) { p.Message = "a\u2028b" },
		"message long":             func(p *Prompt) { p.Message = long },
		"message not UTF-8":        func(p *Prompt) { p.Message = "\xff" },
		"no nonce":                 func(p *Prompt) { p.Nonce = "" },
		"nonce of 31 bytes":        func(p *Prompt) { p.Nonce = encode64(make([]byte, 31)) },
		"nonce of 33 bytes":        func(p *Prompt) { p.Nonce = encode64(make([]byte, 33)) },
		"nonce with spare bits":    func(p *Prompt) { p.Nonce = p.Nonce[:42] + nextChar(p.Nonce[42]) },
		"address hostile":          func(p *Prompt) { p.Requester.Address = "\x1b" },
		"device hostile":           func(p *Prompt) { p.Requester.Device = "\x1b" },
		"place hostile":            func(p *Prompt) { p.Requester.Place = "\u0085" },
		"program hostile":          func(p *Prompt) { p.Requester.Program = "\x7f" },
		"no sign-in":               func(p *Prompt) { p.SignIn = "" },
		"sign-in in upper case":    func(p *Prompt) { p.SignIn = strings.ToUpper(p.SignIn) },
	}
	for what, change := range changes {
		p := signInPrompt()
		change(&p)
		if got, err := ParsePrompt(p.Encode()); !errors.Is(err, ErrInvalid) || got != (Prompt{}) {
			t.Errorf("%s: ParsePrompt = %v, %v, want ErrInvalid", what, got, err)
		}
	}
	for what, candidate := range map[string]*Candidate{
		"no candidate":           nil,
		"empty candidate":        {},
		"candidate without key":  {Kind: "phone", Name: "a"},
		"candidate without kind": {Fingerprint: other, Name: "a"},
		"candidate without name": {Fingerprint: other, Kind: "phone"},
		"candidate hostile":      {Fingerprint: other, Kind: "phone", Name: "a\n"},
	} {
		p := trustPrompt()
		p.Candidate = candidate
		if _, err := ParsePrompt(p.Encode()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: ParsePrompt = %v, want ErrInvalid", what, err)
		}
	}
	half := trustPrompt()
	half.Application.Name = "Wiki"
	if _, err := ParsePrompt(half.Encode()); !errors.Is(err, ErrInvalid) {
		t.Errorf("trust with half an application: ParsePrompt = %v, want ErrInvalid", err)
	}
	longest := signInPrompt()
	longest.Expires = longest.Created + 600
	if _, err := ParsePrompt(longest.Encode()); err != nil {
		t.Errorf("ten minutes: ParsePrompt = %v, want nil", err)
	}
}

func TestPromptLimits(t *testing.T) {
	// The largest prompt whose texts the server lets in (64 characters, at
	// most 256 bytes) must pass with room to spare.
	p := trustPrompt()
	text := strings.Repeat(`\`, 64)
	p.Account = strings.Repeat("a", 64)
	p.Application = Application{ID: strings.Repeat("a", 32), Name: text}
	p.Candidate.Name = text
	p.Message = strings.Repeat("\U0001f600", 64)
	p.Requester = Requester{Address: text, Device: p.Message, Place: p.Message, Program: p.Message}
	b := p.Encode()
	if _, err := ParsePrompt(b); err != nil || len(b) > maxPrompt/2 {
		t.Errorf("ParsePrompt(%d bytes) = %v, want nil, at most %d bytes", len(b), err, maxPrompt/2)
	}
	if _, err := Sign(approvalKey, decision(p)); err != nil {
		t.Errorf("Sign(decision with the largest prompt) = %v, want nil", err)
	}
	if _, err := ParsePrompt(bytes.Repeat([]byte("{"), maxPrompt+1)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "4097 bytes") {
		t.Errorf("ParsePrompt(4097 bytes) = %v, want a refusal for the length", err)
	}
}
