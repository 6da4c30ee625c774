package statement

import (
	"errors"
	"strings"
	"testing"
)

// mustRefuse checks that a payload is refused although its signature is good, and
// that the refusal is printable whatever was in the payload.
func mustRefuse(t *testing.T, s sample, name string, payload []byte) {
	t.Helper()
	jws := signBytes(t, s.key, s.signer, s.typ, payload)
	_, err := s.verify(&s.key.PublicKey, s.signer, jws)
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("%s, %s: Verify(%.200q) = %v, want ErrInvalid", s.name, name, payload, err)
		return
	}
	for _, r := range err.Error() {
		if r < ' ' || r > '~' {
			t.Errorf("%s, %s: error %q repeats hostile text", s.name, name, err)
		}
	}
	if strings.Contains(err.Error(), "evil") {
		t.Errorf("%s, %s: error %q repeats what was received", s.name, name, err)
	}
}

func TestPayloadMustBeCanonical(t *testing.T) {
	for _, s := range samples() {
		valid := string(s.payload)
		first, rest, ok := strings.Cut(strings.TrimPrefix(valid, "{"), ",")
		if !ok {
			t.Fatalf("%s: payload %s", s.name, valid)
		}
		name, value, _ := strings.Cut(first, ":")
		for what, payload := range map[string]string{
			"empty":                  "",
			"null":                   "null",
			"array":                  "[" + valid + "]",
			"string":                 `"` + strings.ReplaceAll(valid, `"`, `\"`) + `"`,
			"empty object":           "{}",
			"cut off":                valid[:len(valid)-1],
			"twice":                  valid + valid,
			"trailing brace":         valid + "}",
			"trailing comma":         valid[:len(valid)-1] + ",}",
			"trailing zero byte":     valid + "\x00",
			"byte order mark":        "\ufeff" + valid,
			"space before":           " " + valid,
			"line break after":       valid + "\n",
			"space after colon":      swap(t, valid, `"iat":`, `"iat": `),
			"space after comma":      strings.Replace(valid, `,"`, `, "`, 1),
			"member twice, same":     "{" + first + "," + first + "," + rest,
			"member twice, first":    "{" + name + `:"evil",` + first + "," + rest,
			"member twice, last":     valid[:len(valid)-1] + "," + first + "}",
			"member in other case":   "{" + strings.ToUpper(name) + ":" + value + "," + rest,
			"Kelvin sign":            "{" + strings.Replace(name, "k", "\u212a", 1) + ` :` + value + "," + rest,
			"name escaped":           `{"\u0061` + strings.TrimPrefix(first, `"a`) + "," + rest,
			"member missing":         "{" + rest,
			"member null":            "{" + name + ":null," + rest,
			"member a number":        "{" + name + ":-1," + rest,
			"member an object":       "{" + name + ":{}," + rest,
			"unknown member":         valid[:len(valid)-1] + `,"zz_evil":""}`,
			"unknown hostile name":   valid[:len(valid)-1] + `,"zz` + "\u202e" + `evil":""}`,
			"member with empty name": `{"":"",` + valid[1:],
			"proto":                  `{"__proto__":{},` + valid[1:],
			"first member last":      "{" + rest[:len(rest)-1] + "," + first + "}",
			"invalid UTF-8":          "{" + name + ":\"\xff\"," + rest,
			"overlong UTF-8":         "{" + name + ":\"\xc0\xaf\"," + rest,
			"half a surrogate":       "{" + name + `:"\ud800",` + rest,
			"comment":                valid + "//evil",
			"deep array":             "{" + name + ":" + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "," + rest,
			"deep object":            valid[:len(valid)-1] + `,"zz":` + strings.Repeat(`{"a":`, 1500) + "1" + strings.Repeat("}", 1500) + "}",
		} {
			mustRefuse(t, s, what, []byte(payload))
		}
	}
}

func TestNumbersMustBeCanonical(t *testing.T) {
	for _, s := range samples() {
		for _, number := range []string{
			"1800000000.0", "1.8e9", "18e8", "1.8E9", "01800000000", "+1800000000", "0x6b49d200",
			"-1800000000", "0", "-0", `"1800000000"`, "null", "true", "[]", "1_800_000_000", "",
			"253402300800", "9223372036854775807", "9223372036854775808", "1e400", "NaN",
		} {
			mustRefuse(t, s, "iat", []byte(swap(t, string(s.payload), `"iat":1800000000`, `"iat":`+number)))
		}
	}
	s := newSample("revocation", approvalKey, revocation())
	for _, number := range []string{
		"0", "-1", "1.0", "1e0", "9007199254740992", "18446744073709551615", "18446744073709551616", `"1"`, "null",
	} {
		mustRefuse(t, s, "counter", []byte(swap(t, string(s.payload), `"counter":1,`, `"counter":`+number+`,`)))
	}
}

func TestStringsMustBeCanonical(t *testing.T) {
	s := newSample("revocation", approvalKey, revocation())
	for _, reason := range []string{
		`""`,       // is left out instead
		`"\u0065"`, // a letter that needs no escape
		`"\/"`, `"\u002f"`, `"\u003c"`, `"\u0026"`, `"\u00e9"`, `"\u005C"`, `"\u0022"`,
		`"\n"`, `"\t"`, `"\b"`, `"\f"`, `"\r"`, `"\u0000"`, `"\u001b"`, `"\u001B[2J"`, "\"\u007f\"", "\"\u0085\"", "\"a\nb\"",
		`"\u2028"`, `"\u2029"`, "\"\u2028\"", "\"\u2029\"",
		`"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d"`, "\"\xed\xa0\xbd\"", "\"\xff\"", `"\ufffd"`,
		`'evil'`, `evil`, `"` + strings.Repeat("a", 257) + `"`, `"` + strings.Repeat("é", 129) + `"`,
	} {
		mustRefuse(t, s, "reason", []byte(swap(t, string(s.payload), `"left in the train"`, reason)))
	}
	// The spellings that RFC 8785 asks for where Go's encoder has a mind of its own.
	for _, reason := range []string{"<&>", `\"`, "é\u00a0\ufffd\U0001f600", "\u202e", strings.Repeat("é", 128)} {
		r := revocation()
		r.Reason = reason
		jws, err := Sign(approvalKey, r)
		if err != nil {
			t.Errorf("Sign(reason %q) = %v, want nil", reason, err)
			continue
		}
		got, err := Verify[Revocation](&approvalKey.PublicKey, device, jws)
		if err != nil || got.Reason != reason {
			t.Errorf("Verify(reason %q) = %q, %v", reason, got.Reason, err)
		}
	}
}

// TestPayloadNamesTheSigner: a device whose key signs well cannot speak for another.
func TestPayloadNamesTheSigner(t *testing.T) {
	for _, s := range samples() {
		if s.key == serverKey {
			continue // names nobody in its payload: TestGrantIsSignedByItsKid
		}
		mustRefuse(t, s, "other device", []byte(swap(t, string(s.payload), `"device":"`+device, `"device":"`+other)))
	}
}

// checkChanges checks that a payload is refused after each of the changes, by
// Sign and, under a good signature, by Verify.
func checkChanges[P Payload](t *testing.T, valid P, changes map[string]func(*P)) {
	t.Helper()
	key := approvalKey
	switch any(valid).(type) {
	case Grant, Checkpoint:
		key = serverKey
	}
	s := newSample("valid", key, valid)
	for what, change := range changes {
		p := valid
		change(&p)
		if _, err := Sign(key, p); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Sign = %v, want ErrInvalid", what, err)
		}
		mustRefuse(t, s, what, Encode(p))
	}
}

func TestDecisionRules(t *testing.T) {
	p := signInPrompt()
	prompt := func(change func(*Prompt)) string {
		p := p
		change(&p)
		return encode64(p.Encode())
	}
	checkChanges(t, decision(p), map[string]func(*Decision){
		"no decision":              func(d *Decision) { d.Decision = "" },
		"decision in upper case":   func(d *Decision) { d.Decision = "Allow" },
		"decision yes":             func(d *Decision) { d.Decision = "yes" },
		"allow with reason":        func(d *Decision) { d.Reason = Mistake },
		"deny with other reason":   func(d *Decision) { d.Decision, d.Reason = Deny, "evil" },
		"no account":               func(d *Decision) { d.Account = "" },
		"other account":            func(d *Decision) { d.Account = "eve" },
		"no application":           func(d *Decision) { d.Application = "" },
		"other application":        func(d *Decision) { d.Application = "bank" },
		"other nonce":              func(d *Decision) { d.Nonce = encode64(make([]byte, 32)) },
		"other sign-in":            func(d *Decision) { d.SignIn = strings.Repeat("0", 26) },
		"other key":                func(d *Decision) { d.ApprovalKey = other },
		"no key":                   func(d *Decision) { d.ApprovalKey = "" },
		"no audience":              func(d *Decision) { d.Aud = "" },
		"audience too short":       func(d *Decision) { d.Aud = d.Aud[1:] },
		"audience in upper case":   func(d *Decision) { d.Aud = strings.ToUpper(d.Aud) },
		"no counter":               func(d *Decision) { d.Counter = 0 },
		"counter too large":        func(d *Decision) { d.Counter = 1 << 53 },
		"no device":                func(d *Decision) { d.Device = "" },
		"no time":                  func(d *Decision) { d.Iat = 0 },
		"time before 1970":         func(d *Decision) { d.Iat = -1 },
		"no server key":            func(d *Decision) { d.ServerKey = "" },
		"no prompt":                func(d *Decision) { d.Prompt = "" },
		"prompt with padding":      func(d *Decision) { d.Prompt += "=" },
		"prompt with a line break": func(d *Decision) { d.Prompt += "\n" },
		"prompt that is not JSON":  func(d *Decision) { d.Prompt = encode64([]byte("evil")) },
		"prompt with white space":  func(d *Decision) { d.Prompt = encode64(append(p.Encode(), '\n')) },
		"prompt for other account": func(d *Decision) { d.Prompt = prompt(func(p *Prompt) { p.Account = "eve" }) },
		"prompt of other sign-in":  func(d *Decision) { d.Prompt = prompt(func(p *Prompt) { p.SignIn = strings.Repeat("0", 26) }) },
		"prompt of other application": func(d *Decision) {
			d.Prompt = prompt(func(p *Prompt) { p.Application.ID = "bank" })
		},
		"prompt with other nonce": func(d *Decision) {
			d.Prompt = prompt(func(p *Prompt) { p.Nonce = encode64(make([]byte, 32)) })
		},
		"prompt of version 2": func(d *Decision) { d.Prompt = prompt(func(p *Prompt) { p.V = 2 }) },
	})
	for _, reason := range []string{"", Mistake, NotMe} {
		d := decision(p)
		d.Decision, d.Reason = Deny, reason
		if _, err := Sign(approvalKey, d); err != nil {
			t.Errorf("Sign(deny, %q) = %v, want nil", reason, err)
		}
	}
}

func TestEnrollmentRules(t *testing.T) {
	checkChanges(t, enrollment(), map[string]func(*Enrollment){
		"neither way":             func(e *Enrollment) { e.Account = "" },
		"both ways":               func(e *Enrollment) { e.Invitation = other },
		"malformed account":       func(e *Enrollment) { e.Account = "Ada" },
		"malformed invitation":    func(e *Enrollment) { e.Account, e.Invitation = "", "evil" },
		"unknown storage":         func(e *Enrollment) { e.KeyStorage = "evil" },
		"no storage":              func(e *Enrollment) { e.KeyStorage = "" },
		"unknown kind":            func(e *Enrollment) { e.Kind = "toaster" },
		"no kind":                 func(e *Enrollment) { e.Kind = "" },
		"no name":                 func(e *Enrollment) { e.Name = "" },
		"name with a control":     func(e *Enrollment) { e.Name = "evil\x1b[2J" },
		"no server key":           func(e *Enrollment) { e.ServerKey = "" },
		"no audience":             func(e *Enrollment) { e.Aud = "" },
		"no device":               func(e *Enrollment) { e.Device = "" },
		"no time":                 func(e *Enrollment) { e.Iat = 0 },
		"no key":                  func(e *Enrollment) { e.ApprovalKey = JWK{} },
		"other key":               func(e *Enrollment) { e.ApprovalKey, _ = NewJWK(&otherKey.PublicKey) },
		"coordinates exchanged":   func(e *Enrollment) { e.ApprovalKey.X, e.ApprovalKey.Y = e.ApprovalKey.Y, e.ApprovalKey.X },
		"key of another type":     func(e *Enrollment) { e.ApprovalKey.Kty = "OKP" },
		"device is the other key": func(e *Enrollment) { e.Device = keyID(approvalKey) },
	})
}

func TestCodeRequestRules(t *testing.T) {
	checkChanges(t, codeRequest(), map[string]func(*CodeRequest){
		"no account":    func(c *CodeRequest) { c.Account = "" },
		"no key":        func(c *CodeRequest) { c.ApprovalKey = "" },
		"other key":     func(c *CodeRequest) { c.ApprovalKey = other },
		"no audience":   func(c *CodeRequest) { c.Aud = "" },
		"no counter":    func(c *CodeRequest) { c.Counter = 0 },
		"no time":       func(c *CodeRequest) { c.Iat = 0 },
		"no server key": func(c *CodeRequest) { c.ServerKey = "" },
	})
}

func TestUnlockRules(t *testing.T) {
	checkChanges(t, unlock(), map[string]func(*Unlock){
		"account":      func(u *Unlock) { u.Account = "" },
		"approval key": func(u *Unlock) { u.ApprovalKey = u.ApprovalKey[1:] },
		"aud":          func(u *Unlock) { u.Aud = "" },
		"counter":      func(u *Unlock) { u.Counter = 1 << 53 },
		"device":       func(u *Unlock) { u.Device = "" },
		"iat":          func(u *Unlock) { u.Iat = 0 },
		"server key":   func(u *Unlock) { u.ServerKey = "" },
	})
}

func TestRecoveryRules(t *testing.T) {
	checkChanges(t, recoveryRenewal(), map[string]func(*RecoveryRenewal){
		"no account":    func(r *RecoveryRenewal) { r.Account = "" },
		"other key":     func(r *RecoveryRenewal) { r.ApprovalKey = other },
		"no audience":   func(r *RecoveryRenewal) { r.Aud = "" },
		"no counter":    func(r *RecoveryRenewal) { r.Counter = 0 },
		"no time":       func(r *RecoveryRenewal) { r.Iat = 0 },
		"no server key": func(r *RecoveryRenewal) { r.ServerKey = "" },
	})
	checkChanges(t, recovering(), map[string]func(*Enrollment){
		"a code without an account": func(e *Enrollment) { e.Account = "" },
		"a code and an invitation":  func(e *Enrollment) { e.Account, e.Invitation = "", other },
		"all three":                 func(e *Enrollment) { e.Invitation = other },
		"malformed hash":            func(e *Enrollment) { e.Recovery = "evil" },
	})
}

func TestRevocationRules(t *testing.T) {
	checkChanges(t, revocation(), map[string]func(*Revocation){
		"no account":    func(r *Revocation) { r.Account = "" },
		"other key":     func(r *Revocation) { r.ApprovalKey = other },
		"no audience":   func(r *Revocation) { r.Aud = "" },
		"no counter":    func(r *Revocation) { r.Counter = 0 },
		"no time":       func(r *Revocation) { r.Iat = 0 },
		"reason":        func(r *Revocation) { r.Reason = "evil\u2028" },
		"no target":     func(r *Revocation) { r.Revoked = "" },
		"not a target":  func(r *Revocation) { r.Revoked = "ada" },
		"no server key": func(r *Revocation) { r.ServerKey = "" },
	})
	self := revocation()
	self.Revoked = self.Device
	if _, err := Sign(approvalKey, self); err != nil {
		t.Errorf("Sign(own device) = %v, want nil", err)
	}
}

func TestReadmissionRules(t *testing.T) {
	checkChanges(t, readmission(), map[string]func(*Readmission){
		"no account":    func(r *Readmission) { r.Account = "" },
		"other key":     func(r *Readmission) { r.ApprovalKey = other },
		"no audience":   func(r *Readmission) { r.Aud = "" },
		"no counter":    func(r *Readmission) { r.Counter = 0 },
		"no time":       func(r *Readmission) { r.Iat = 0 },
		"no target":     func(r *Readmission) { r.Readmitted = "" },
		"not a target":  func(r *Readmission) { r.Readmitted = "ada" },
		"itself":        func(r *Readmission) { r.Readmitted = r.Device },
		"no server key": func(r *Readmission) { r.ServerKey = "" },
	})
}

func TestGrantRules(t *testing.T) {
	checkChanges(t, grant(), map[string]func(*Grant){
		"no assurance":             func(g *Grant) { g.Acr = "" },
		"assurance without a word": func(g *Grant) { g.Acr = "urn:countersign:acr:" },
		"foreign assurance":        func(g *Grant) { g.Acr = "urn:evil:acr:code" },
		"recovery":                 func(g *Grant) { g.Acr = "urn:countersign:acr:recovery" },
		"no method":                func(g *Grant) { g.Amr = nil },
		"empty methods":            func(g *Grant) { g.Amr = []string{} },
		"empty method":             func(g *Grant) { g.Amr = []string{""} },
		"method twice":             func(g *Grant) { g.Amr = []string{"otp", "user", "otp"} },
		"too many methods":         func(g *Grant) { g.Amr = strings.Split("a,b,c,d,e,f,g,h,i", ",") },
		"method in upper case":     func(g *Grant) { g.Amr = []string{"OTP"} },
		"no audience":              func(g *Grant) { g.Aud = "" },
		"audience with capital":    func(g *Grant) { g.Aud = "Wiki" },
		"never authenticated":      func(g *Grant) { g.AuthTime = 0 },
		"no end":                   func(g *Grant) { g.Exp = 0 },
		"ends as it begins":        func(g *Grant) { g.Exp = g.Iat },
		"no issuer":                func(g *Grant) { g.Iss = "" },
		"no id":                    func(g *Grant) { g.Jti = "" },
		"id too long":              func(g *Grant) { g.Jti = strings.Repeat("a", 65) },
		"id with a space":          func(g *Grant) { g.Jti = "a b" },
		"no sign-in":               func(g *Grant) { g.SignInID = "" },
		"no subject":               func(g *Grant) { g.Sub = "" },
	})
}

func TestCheckpointRules(t *testing.T) {
	checkChanges(t, checkpoint(), map[string]func(*Checkpoint){
		"no time":       func(c *Checkpoint) { c.Iat = 0 },
		"no issuer":     func(c *Checkpoint) { c.Iss = "" },
		"no root":       func(c *Checkpoint) { c.Root = "" },
		"short root":    func(c *Checkpoint) { c.Root = c.Root[:42] },
		"root with pad": func(c *Checkpoint) { c.Root += "=" },
		"empty record":  func(c *Checkpoint) { c.Size = 0 },
		"inexact size":  func(c *Checkpoint) { c.Size = 1 << 53 },
	})
}
