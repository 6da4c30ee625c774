package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/code"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const oneFieldHelp = `With --one-field it plays a device that has one field only, for the password, and forgets everything between two tries. It reads one line, without echo on a terminal. A password alone asks the trusted devices and ends with exit code 7; run again with the password and the code right behind it, it finds the same sign-in and has the code verified. Of the line nothing but the digits at its end is sent. With --password-file it knows the password and checks it first, as an application should; a line that does not begin with it is refused, and nobody is asked. Without, what is before the code is not checked.`

// A typedLine is what came from the one field.
type typedLine struct {
	line     string
	password string // that the application knows; empty if it does not
}

// digits returns the digits at the end of the line that may be a code, or "" if it
// is a first try, with the password alone.
func (t typedLine) digits() (string, error) {
	digits := code.Trailing(t.line)
	switch {
	case t.line == "":
		return "", errors.New("there is no password: standard input has ended, or the line is empty")
	case t.password == "" && len(digits) < code.Digits, t.line == t.password:
		return "", nil
	case t.password == "" || t.rest(code.Digits) == t.password || t.rest(code.OfflineDigits) == t.password:
		return digits, nil
	}
	return "", errors.New("the password is wrong: nobody was asked")
}

// rest returns the line without a code of n digits, or "" if none can be behind it.
func (t typedLine) rest(n int) string {
	if len(code.Trailing(t.line)) < n {
		return ""
	}
	return t.line[:len(t.line)-n]
}

// readTyped reads the line, and the password from its file.
func (c *signInCmd) readTyped(ctx context.Context, env *environment) (typedLine, error) {
	var t typedLine
	if c.PasswordFile != "" {
		data, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return t, fmt.Errorf("reading the password: %w", err)
		}
		if t.password = strings.TrimRight(string(data), "\r\n"); t.password == "" {
			return t, fmt.Errorf("%s: there is no password in it", c.PasswordFile)
		}
	}
	var err error
	if env.tty != nil {
		t.line, err = env.ask(ctx, "Password, and the code right behind it: ")
	} else if t.line, err = env.readLine(ctx); errors.Is(err, io.EOF) {
		err = nil
	}
	return t, err
}

// oneField has what was typed into one field verified, or only asks the devices.
func (v *visit) oneField(ctx context.Context, t typedLine) (*pb.VerifySignInResponse, error) {
	digits, err := t.digits()
	if err != nil {
		return nil, err
	}
	if err := v.begin(ctx); err != nil {
		return nil, err
	}
	if digits == "" {
		return nil, exitErr{errors.New("no code yet: allow it on a trusted device, then type the password and the code right behind it"), exitNoCode}
	}
	if err := v.reach(ctx); err != nil {
		return nil, err
	}
	request := &pb.VerifySignInRequest{SignInId: v.signIn.GetId(), TrailingDigits: digits}
	if t.password != "" { // then it is known which of the digits are the code
		request.TrailingDigits, request.Code = "", t.line[len(t.password):]
	}
	response, err := v.client.VerifySignIn(ctx, request)
	if agent.Reason(err) == pb.ErrorReason_ERROR_REASON_SIGN_IN_PENDING {
		return nil, exitErr{v.conn.Explain(err), exitNoCode}
	}
	if err != nil {
		return nil, refusal(v.conn.Explain(err))
	}
	n := int(response.GetCodeLength())
	switch {
	case n != code.Digits && n != code.OfflineDigits || n > len(digits), t.password != "" && n != len(request.Code):
		return nil, errors.New("the server did not say how many of the digits were the code")
	}
	rest := "what is before them is for the application to check"
	if t.password != "" {
		rest = "what is before them is the password"
	}
	fmt.Fprintf(v.out, "code: the last %d digits; %s\n", n, rest)
	return response, nil
}
