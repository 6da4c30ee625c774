package invitation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	deployment = "mzxw6ytboi2dmnrxgq3tmobzga"
	keyID      = "fpi3wdcevcl4gct2ucmrzxry3adc7zcb3zinud2gqjjuj5qc5atq"
	token      = "secretsecretsecretsecret23"
	link       = "countersign://host.example:8443/enroll?id=" + deployment + "&pin=" + keyID + "&token=" + token
)

func pinned() Link {
	return Link{Server: "host.example:8443", Deployment: deployment, Pin: keyID, Token: token}
}

func TestURL(t *testing.T) {
	if got := pinned().URL(); got != link {
		t.Errorf("URL() = %q, want %q", got, link)
	}
	roots := pinned()
	roots.Pin = ""
	want := strings.Replace(link, "pin="+keyID, "roots=system", 1)
	if got := roots.URL(); got != want {
		t.Errorf("URL() = %q, want %q", got, want)
	}
}

func TestParse(t *testing.T) {
	for _, server := range []string{
		"host.example:8443", "host:1", "a-b_c.example:65535", "HOST.example:8443", "192.0.2.7:8443",
		"[::1]:8443", "[2001:db8::7]:8443", "[::ffff:192.0.2.7]:443", "1host.example:8443", "2nd:8443", "host.1st:8443", "xn--bcher-kva.example:8443",
		strings.Repeat("a", 63) + ".example:8443",
	} {
		for _, key := range []string{keyID, ""} {
			want := Link{Server: server, Deployment: deployment, Pin: key, Token: token}
			for _, s := range []string{want.URL(), " " + want.URL() + "\r\n", "\t" + want.URL()} {
				got, err := Parse(s)
				if err != nil {
					t.Errorf("Parse(%q) = %v", s, err)
				}
				// As other types, since a Link would hide a difference.
				if diff := cmp.Diff(fields(want), fields(got)); diff != "" {
					t.Errorf("Parse(%q) (-want +got):\n%s", s, diff)
				}
			}
		}
	}
	reordered := "countersign://host.example:8443/enroll?token=" + token + "&pin=" + keyID + "&id=" + deployment
	if got, err := Parse(reordered); err != nil || got != pinned() {
		t.Errorf("Parse(%q) = %v, %v, want %v", reordered, got, err, pinned())
	}
}

func fields(l Link) [4]string { return [4]string{l.Server, l.Deployment, l.Pin, l.Token} }

func TestParseRefuses(t *testing.T) {
	swap := func(old, new string) string {
		if strings.Count(link, old) != 1 {
			t.Fatalf("%q does not occur once in the link", old)
		}
		return strings.Replace(link, old, new, 1)
	}
	server := func(s string) string { return swap("host.example:8443", s) }
	for name, s := range map[string]string{
		"empty":                  "",
		"white space":            " \n",
		"the token alone":        token,
		"cut at the front":       link[1:],
		"cut in the token":       link[:len(link)-1],
		"cut before the token":   strings.TrimSuffix(link, "&token="+token),
		"cut in the query":       link[:len("countersign://host.example:8443/enroll?id=mz")],
		"cut in the host":        link[:len("countersign://host")],
		"scheme alone":           "countersign://",
		"other scheme":           swap("countersign", "https"),
		"scheme in upper case":   swap("countersign", "COUNTERSIGN"),
		"no slashes":             swap("://", ":"),
		"twice":                  link + link,
		"twice with a space":     link + " " + link,
		"text around":            "Open " + link,
		"text behind":            link + " now",
		"in angle brackets":      "<" + link + ">",
		"with a full stop":       link + ".",
		"line break inside":      swap("&token", "\n&token"),
		"soft hyphen inside":     swap("&token", "\u00ad&token"),
		"zero byte":              link + "\x00",
		"no-break space at end":  link + "\u200b",
		"other path":             swap("/enroll?", "/enrol?"),
		"longer path":            swap("/enroll?", "/enroll/?"),
		"path twice":             swap("/enroll?", "/enroll?/enroll?"),
		"path before":            swap("/enroll?", "/x/enroll?"),
		"path escaped":           swap("/enroll?", "/enrol%6c?"),
		"fragment":               link + "#x",
		"escaped as HTML":        strings.ReplaceAll(link, "&", "&amp;"),
		"escaped token":          swap(token, "%73"+token[1:]),
		"semicolon":              strings.ReplaceAll(link, "&", ";"),
		"empty parameter":        link + "&",
		"unknown parameter":      link + "&x=1",
		"unknown without value":  link + "&" + token,
		"parameter in caps":      swap("token=", "Token="),
		"id twice":               link + "&id=" + deployment,
		"token twice":            link + "&token=" + token,
		"pin twice":              link + "&pin=" + keyID,
		"pin and roots":          link + "&roots=system",
		"roots twice":            swap("pin="+keyID, "roots=system&roots=system"),
		"neither pin nor roots":  swap("&pin="+keyID, ""),
		"empty pin":              swap("pin="+keyID, "pin="),
		"empty pin and roots":    swap("pin="+keyID, "pin=&roots=system"),
		"empty roots":            swap("pin="+keyID, "roots="),
		"other roots":            swap("pin="+keyID, "roots=none"),
		"roots without value":    swap("pin="+keyID, "roots"),
		"no id":                  swap("id="+deployment+"&", ""),
		"empty id":               swap(deployment, ""),
		"id in upper case":       swap(deployment, strings.ToUpper(deployment)),
		"pin in upper case":      swap(keyID, strings.ToUpper(keyID)),
		"pin with spare bits":    swap(keyID, keyID[:51]+"r"),
		"pin with padding":       swap(keyID, keyID+"===="),
		"empty token":            swap(token, ""),
		"token in upper case":    swap(token, strings.ToUpper(token)),
		"token too long":         swap(token, token+"a"),
		"token with other chars": swap(token, "1"+token[1:]),
		"token with equals":      swap(token, token+"="),
		"no server":              server(""),
		"no port":                server("host.example"),
		"empty port":             server("host.example:"),
		"port zero":              server("host.example:0"),
		"port too large":         server("host.example:65536"),
		"port with zeros":        server("host.example:08443"),
		"port with a sign":       server("host.example:+8443"),
		"port by name":           server("host.example:https"),
		"two ports":              server("host.example:1:2"),
		"no host":                server(":8443"),
		"user":                   server("ada@host.example:8443"),
		"user hides the host":    server("host.example:8443@evil.example:8443"),
		"backslash":              server(`host.example\@evil.example:8443`),
		"query before the path":  server("evil.example:8443?host.example:8443"),
		"wildcard":               server("*.example:8443"),
		"dot at the end":         server("host.example.:8443"),
		"dot at the start":       server(".example:8443"),
		"two dots":               server("host..example:8443"),
		"hyphen at the start":    server("-host.example:8443"),
		"hyphen at the end":      server("host-.example:8443"),
		"label too long":         server(strings.Repeat("a", 64) + ":8443"),
		"name too long":          server(strings.Repeat("a.", 126) + "aa:8443"),
		"non-ASCII host":         server("bücher.example:8443"),
		"escaped host":           server("host%2eexample:8443"),
		"short IPv4":             server("127.1:8443"),
		"IPv4 with zeros":        server("127.0.0.01:8443"),
		"IPv4 as a number":       server("2130706433:8443"),
		"IPv4 in hexadecimal":    server("0x7f000001:8443"),
		"IPv4 in octal":          server("0177.0.0.1:8443"),
		"IPv4 too large":         server("256.0.0.1:8443"),
		"IPv6 without brackets":  server("::1:8443"),
		"IPv6 with a zone":       server("[fe80::1%eth0]:8443"),
		"IPv6 without port":      server("[::1]"),
		"IPv4 in brackets":       server("[127.0.0.1]:8443"),
		"name in brackets":       server("[host.example]:8443"),
		"empty brackets":         server("[]:8443"),
		"bracket open":           server("[::1:8443"),
		"endless":                link + strings.Repeat("a", 1_000_000),
	} {
		got, err := Parse(s)
		if err == nil || got != (Link{}) {
			t.Errorf("%s: Parse(%.300q) = %v, %v, want an error", name, s, got, err)
			continue
		}
		checkSentence(t, s, err)
	}
}

// checkSentence checks that an error tells a person what to do and no one the token.
func checkSentence(t *testing.T, s string, err error) {
	t.Helper()
	if !strings.Contains(err.Error(), "copy") {
		t.Errorf("Parse(%.300q) = %q, which does not say what to do", s, err)
	}
	if strings.Contains(strings.ToLower(err.Error()), token[:6]) {
		t.Errorf("Parse(%.300q) = %q, which repeats the token", s, err)
	}
}

func TestLinkHidesItsToken(t *testing.T) {
	l := pinned()
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		logger := slog.New(handler)
		logger.Info("link", "value", l, "pointer", &l, "in a struct", struct{ Link Link }{l}, "in a list", []Link{l},
			"in a map", map[string]Link{"a": l})
		logger.Info(fmt.Sprint(l))
	}
	encoded, err := json.Marshal(map[string]any{"a": l, "b": &l, "c": []Link{l}})
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{l.String(), log.String(), string(encoded), fmt.Sprint(l), fmt.Sprint(&l), fmt.Errorf("x: %w", fmt.Errorf("%v", l)).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T %v", "%200v", "%-200s"} {
		values := []any{l, &l, struct{ Link Link }{l}, []Link{l}, map[string]Link{"a": l}, [1]*Link{&l}}
		for _, v := range values {
			shown = append(shown, fmt.Sprintf(strings.Replace(verb, "%T ", "", 1), v))
		}
	}
	secrets := []string{token, token[:6], fmt.Sprintf("%x", token), fmt.Sprintf("%X", token)}
	for _, s := range shown {
		for _, secret := range secrets {
			if strings.Contains(s, secret) {
				t.Errorf("%q shows the token", s)
			}
		}
	}
	if got, want := l.String(), strings.Replace(link, token, "(hidden)", 1); got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if _, err := Parse(l.String()); err == nil {
		t.Error("Parse(String()) = nil, want an error")
	}
}

func TestNewToken(t *testing.T) {
	seen := make(map[string]bool)
	var used [256]bool
	for range 1000 {
		token := NewToken()
		if !validToken(token) {
			t.Fatalf("NewToken() has %d bytes or other characters than a-z 2-7", len(token))
		}
		if seen[token] {
			t.Fatal("NewToken() gave one token twice")
		}
		seen[token] = true
		for _, c := range []byte(token) {
			used[c] = true
		}
	}
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz234567") {
		if !used[c] {
			t.Errorf("%q is in none of 1000 tokens", c)
		}
	}
}

func TestHash(t *testing.T) {
	// printf 'countersign invitation v1\0secret…' | openssl dgst -sha256 -binary | base32
	const want = "c4vnl2fq2qaoj55etexpmwzui66tahag22y3sonkmdm7lnulauaa"
	if got := Hash(token); got != want {
		t.Errorf("Hash = %q, want %q", got, want)
	}
	if Hash("") == Hash(token) || Hash(strings.ToUpper(token)) == want {
		t.Error("Hash is the same for other tokens")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(link)
	f.Add(strings.Replace(link, "pin="+keyID, "roots=system", 1))
	f.Add(strings.Replace(link, "host.example", "[::1]", 1))
	f.Add(strings.Replace(link, "host.example", "127.0.0.1", 1))
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Parse(s)
		if err != nil {
			if l != (Link{}) {
				t.Errorf("Parse(%q) = %v with an error", s, l)
			}
			checkSentence(t, s, err)
			return
		}
		if again, err := Parse(l.URL()); err != nil || again != l {
			t.Errorf("Parse(%q) = %v, %v, want %v", l.URL(), again, err, l)
		}
		if strings.Contains(fmt.Sprintf("%+v", l), l.Token) {
			t.Errorf("%+v shows its token", l)
		}
	})
}
