package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// What a browser keeps in a cookie, sign-in keeps in a file beside the
// application's credentials, one for each account: the token that tells this
// requester from a stranger. It lets nobody in; who has it is rung in a lane
// that strangers cannot fill.

// knownPath returns where the token is kept, or "" if it is not.
func (v *visit) knownPath() string {
	c := v.command
	if c.Stranger || c.Credentials == "-" {
		return ""
	}
	return c.Credentials + ".known-" + v.credentials.Application + "-" + c.Account
}

// maxKnown is far more than a token has.
const maxKnown = 128

// readKnown returns the requester's token, or "" if it has none. A file that
// holds something else makes a stranger of it, as no file does.
func (v *visit) readKnown() string {
	path := v.knownPath()
	if path == "" {
		return ""
	}
	data, err := os.ReadFile(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			v.env.say(v.env.err, "%s: warning: signing in as a requester that is not known: %v\n", program, err)
		}
		return ""
	}
	token := string(bytes.TrimSpace(data))
	if len(token) > maxKnown || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return token
}

// keepKnown keeps the requester's token for the next time. The sign-in is done,
// so it is no failure if that does not work.
func (v *visit) keepKnown(token string) {
	path := v.knownPath()
	if path == "" || token == "" {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".known-*") // mode 0600
	if err == nil {
		_, err = f.WriteString(token + "\n")
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), path)
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}
	if err != nil {
		v.env.say(v.env.err, "%s: warning: this requester will not be known next time: %v\n", program, err)
	}
}
