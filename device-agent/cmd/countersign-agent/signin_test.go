package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

func TestSignInWrongCodes(t *testing.T) {
	f := newFake(t)
	agent := begin(t, []string{"--dir", enrolled(t, f), "run"})
	agent.waitFor("connected")
	credentialsFile, _ := f.files()
	app := begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile})
	agent.waitFor("Answer with")
	agent.line("a")
	app.waitFor("approved")
	wrong := "000000"
	if f.code == wrong {
		wrong = "000001"
	}
	for range 5 {
		app.line(wrong)
	}
	app.exits(exitWrongCode)
	if out := call(t, exitError, "sign-in", "ada", "--credentials", credentialsFile, "--code", "12"); strings.Contains(out, "sign-in:") {
		t.Errorf("a sign-in was begun with what cannot be a code:\n%s", out)
	}
	if out := call(t, exitError, "sign-in", "bob", "--credentials", credentialsFile); !strings.Contains(out, "ACCOUNT_UNKNOWN") {
		t.Errorf("sign-in printed:\n%s", out)
	}
}

// Whatever the server gives instead of what it should, nobody is signed in.
func TestSignInChecksWhatItGets(t *testing.T) {
	f := newFake(t)
	agent := begin(t, []string{"--dir", enrolled(t, f), "run"})
	agent.waitFor("connected")
	credentialsFile, keysFile := f.files()
	stranger, _ := newKey(t)
	var old *pb.VerifySignInResponse
	other := func(change func(*statement.Grant)) func(*pb.VerifySignInResponse) {
		return func(r *pb.VerifySignInResponse) {
			grant, err := decodeGrant(r.Grant)
			if err != nil {
				t.Error(err)
			}
			change(&grant)
			if r.Grant, err = statement.Sign(f.signer, grant); err != nil {
				t.Error(err)
			}
		}
	}
	tests := []struct {
		name   string
		tamper func(*pb.VerifySignInResponse)
		want   string
	}{
		{"nothing", func(r *pb.VerifySignInResponse) { old = r }, ""},
		{"grant of a stranger", func(r *pb.VerifySignInResponse) {
			grant, _ := decodeGrant(r.Grant)
			r.Grant, _ = statement.Sign(stranger, grant)
		}, "none of the keys"},
		{"other account", other(func(g *statement.Grant) { g.Sub = "bob" }), "another account"},
		{"other application", other(func(g *statement.Grant) { g.Aud = "mail" }), "another account, application"},
		{"too old", other(func(g *statement.Grant) { g.Iat -= 200; g.Exp -= 200 }), "too old"},
		{"other deployment", other(func(g *statement.Grant) { g.Iss = strings.Repeat("b", 26) }), "another server"},
		{"no receipt", func(r *pb.VerifySignInResponse) { r.Receipt = nil }, "not a JWK"},
		{"old receipt", func(r *pb.VerifySignInResponse) { r.Receipt = old.Receipt }, "another account, application or sign-in"},
		{"other device", func(r *pb.VerifySignInResponse) { r.Receipt.DeviceId = f.keyID }, "receipt is not valid"},
		{"other key", func(r *pb.VerifySignInResponse) {
			jwk, _ := statement.NewJWK(&stranger.PublicKey)
			data, _ := json.Marshal(jwk)
			r.Receipt.ApprovalKey = string(data)
		}, "receipt is not valid"},
		{"no statement", func(r *pb.VerifySignInResponse) { r.Receipt.Statement = "" }, "receipt is not valid"},
		{"allowed, said to be asked for", other(func(g *statement.Grant) { g.Acr = acrRequested }), "receipt is not valid"},
		{"allowed, said to be offline", other(func(g *statement.Grant) { g.Acr = acrOffline }), "no device makes for an offline code"},
		{"in another way", other(func(g *statement.Grant) { g.Acr = "urn:countersign:acr:tap" }), "does not know"},
		{"offline", func(r *pb.VerifySignInResponse) {
			other(func(g *statement.Grant) { g.Acr = acrOffline })(r)
			r.Receipt.Statement = ""
		}, ""},
	}
	for i, test := range tests {
		f.change(func() { f.tamper = test.tamper })
		app := begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile, "--jwks", keysFile})
		agent.waitForCount("Answer with", i+1)
		agent.line("a")
		app.waitFor("approved")
		f.mu.Lock()
		digits := f.code
		f.mu.Unlock()
		app.line(digits)
		if test.want == "" {
			if out := app.exits(0); strings.Contains(out, "receipt: none") != (test.name == "offline") {
				t.Errorf("%s: sign-in printed:\n%s", test.name, out)
			}
			continue
		}
		if out := app.exits(exitError); !strings.Contains(out, test.want) || strings.Contains(out, "signed in as") {
			t.Errorf("%s: sign-in printed:\n%s", test.name, out)
		}
	}
}

func TestParseCredentials(t *testing.T) {
	_, keyID := newKey(t)
	good := `{"server":"[2001:db8::7]:8443","server_key_id":"` + keyID + `","application":"files","token":"s3cret"}`
	if c, err := parseCredentials([]byte(good + "\n")); err != nil || c.Token != "s3cret" {
		t.Errorf("parseCredentials = %+v, %v", c, err)
	}
	roots := strings.Replace(good, `"server_key_id":"`+keyID+`"`, `"roots":"system"`, 1)
	if c, err := parseCredentials([]byte(roots)); err != nil || c.Roots != "system" {
		t.Errorf("parseCredentials with roots = %+v, %v", c, err)
	}
	for name, data := range map[string]string{
		"both":        strings.Replace(good, "{", `{"roots":"system",`, 1),
		"other roots": strings.Replace(roots, "system", "any", 1),
		"empty":       "",
		"null":        "null",
		"trailing":    good + "{}",
		"unknown":     strings.Replace(good, "{", `{"x":1,`, 1),
		"twice":       strings.Replace(good, "{", `{"token":"other",`, 1),
		"other case":  strings.Replace(good, `"token"`, `"Token"`, 1),
		"no token":    strings.Replace(good, "s3cret", "", 1),
		"line break":  strings.Replace(good, "s3cret", `s3\ncret`, 1),
		"no pin":      strings.Replace(good, keyID, "", 1),
		"no port":     strings.Replace(good, ":8443", "", 1),
		"application": strings.Replace(good, "files", "Files!", 1),
		"huge":        good + strings.Repeat(" ", maxCredentials),
	} {
		_, err := parseCredentials([]byte(data))
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("parseCredentials(%s) = %v, want a refusal without the token", name, err)
		}
	}
}

func TestSignInIsToldOfAnother(t *testing.T) {
	f := newFake(t)
	f.stray = true
	credentialsFile, _ := f.files()
	if out := call(t, exitError, "sign-in", "ada", "--credentials", credentialsFile); !strings.Contains(out, "another sign-in") {
		t.Errorf("sign-in printed:\n%s", out)
	}
}

// FuzzParseCredentials holds that what is taken can be dialled with: nothing is
// missing, and no secret is in an error.
func FuzzParseCredentials(f *testing.F) {
	key := strings.Repeat("a", 52)
	f.Add([]byte(`{"server":"127.0.0.1:1","server_key_id":"` + key + `","application":"files","token":"secret"}`))
	f.Add([]byte(`{"server":"x","token":"secret"}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCredentials(data)
		if err != nil {
			return
		}
		if c.Server == "" || c.Application == "" || c.Token == "" || (c.Roots == "system") == (len(c.ServerKeyID) == 52) {
			t.Errorf("parseCredentials(%q) = %+v", data, c)
		}
	})
}
