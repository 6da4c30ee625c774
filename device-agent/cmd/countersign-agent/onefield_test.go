package main

import (
	"strings"
	"testing"
)

// S9: what of a line may be a code, and what is never sent.
func TestTypedLine(t *testing.T) {
	for _, tc := range []struct {
		line, password string
		want           string // "" if nothing is sent
		refused        bool
	}{
		{"secret", "", "", false},
		{"secret482913", "", "482913", false},
		{"hunter22482913", "", "22482913", false},
		{"secret 482 913", "", "", false},
		{"12345", "", "", false},
		{"", "", "", true},

		{"hunter22", "hunter22", "", false},
		{"20261122", "20261122", "", false},
		{"hunter22482913", "hunter22", "22482913", false},
		{"hunter2212345678", "hunter22", "12345678", false},
		{"20261122482913", "20261122", "22482913", false},
		{"hunter2", "hunter22", "", true},
		{"hunter2248291", "hunter22", "", true},
		{"hunter224829130", "hunter22", "", true},
		{"secret482913", "hunter22", "", true},
		{"482913", "hunter22", "", true},
		{"", "hunter22", "", true},
	} {
		got, err := typedLine{tc.line, tc.password}.digits()
		if got != tc.want || (err != nil) != tc.refused {
			t.Errorf("digits of %q, password %q = %q, %v, want %q, refused %v", tc.line, tc.password, got, err, tc.want, tc.refused)
		}
		if err != nil && tc.line != "" && strings.Contains(err.Error(), tc.line) {
			t.Errorf("the refusal %q repeats what was typed", err)
		}
	}
}

func TestOneFieldCommandLine(t *testing.T) {
	f := newFake(t)
	credentialsFile, _ := f.files()
	for _, args := range [][]string{
		{"--one-field", "--code", "482913"}, {"--one-field", "--no-wait"}, {"--one-field", "--after-denial"}, {"--password-file", "x"},
	} {
		call(t, exitUsage, append([]string{"sign-in", "ada", "--credentials", credentialsFile}, args...)...)
	}
	app := begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile, "--one-field"})
	app.line("secret")
	if out := app.exits(exitNoCode); !strings.Contains(out, "asked: ") || strings.Contains(out, "secret") {
		t.Errorf("sign-in printed:\n%s", out)
	}
	app = begin(t, []string{"sign-in", "ada", "--credentials", credentialsFile, "--one-field"})
	app.line("")
	if out := app.exits(exitError); strings.Contains(out, "asked: ") {
		t.Errorf("sign-in with nothing asked somebody:\n%s", out)
	}
}

// A device that has no secret says what to do about it.
func TestOfflineCodeWithoutASecret(t *testing.T) {
	f := newFake(t)
	dir := enrolled(t, f) // the fake hands nothing over
	for _, args := range [][]string{{"code", "--offline"}, {"code", "--offline", "--json"}} {
		if out := call(t, exitError, append([]string{"--dir", dir}, args...)...); !strings.Contains(out, "run countersign-agent code once while the server can be reached") {
			t.Errorf("%v printed:\n%s", args, out)
		}
	}
}
