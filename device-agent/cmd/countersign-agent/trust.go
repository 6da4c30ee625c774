package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/text"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// askTrust enrols this device by the approval of one that is trusted.
func (c *enrollCmd) askTrust(ctx context.Context, env *environment) error {
	in, err := c.asking(ctx, env)
	if err != nil {
		return err
	}
	candidate, err := agent.Ask(ctx, in)
	if err != nil {
		return trustRefusal(err)
	}
	state := candidate.State()
	if state.Phase != agent.Trusted {
		env.say(env.out, `Asked the trusted devices of %s to trust this one. (If there is no such account or device, or if they were asked too often lately, nobody sees it: the server does not tell.)

  server       %s
  device       %s (%s)
  fingerprint  %s

Allow it on one of them, if it shows the same fingerprint, before %s.
Then type the code that it shows here.
`, state.Account, state.Server, text.Isolate(state.Name), state.Kind, agent.Fingerprint(state.Device), candidate.ExpireTime().Local().Format("15:04:05"))
		if state, err = complete(ctx, env, candidate); err != nil {
			return err
		}
	}
	return sayTrusted(env, state, func() error {
		listing, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		sayOlder(env, candidate.Namesakes(listing))
		return nil
	})
}

// asking returns which device asks whom.
func (c *enrollCmd) asking(ctx context.Context, env *environment) (in agent.Asking, err error) {
	in = agent.Asking{Dir: env.dir, Account: c.Account, Name: c.Name, Kind: c.Kind}
	if in.Name == "" {
		in.Name = hostName()
	}
	if c.Server != "" {
		if in.Server, err = c.server(ctx, env); err != nil {
			return in, err
		}
	}
	in.Passphrase, err = c.passphrase(ctx, env)
	return in, err
}

// complete asks for the code until this device is trusted or there is nothing
// left to wait for.
func complete(ctx context.Context, env *environment, candidate *agent.Candidate) (agent.State, error) {
	for {
		if env.tty != nil {
			fmt.Fprint(env.err, "Code: ")
		}
		line, err := env.readLine(ctx)
		if errors.Is(err, io.EOF) {
			return agent.State{}, exitErr{fmt.Errorf("there is no code: standard input has ended. To type it, run %s enroll again", program), exitWrongCode}
		}
		if err != nil {
			return agent.State{}, err
		}
		digits, err := code.Parse(line)
		if err != nil { // not sent, as it would use up a try
			env.say(env.err, "%v\n", err)
			continue
		}
		state, err := candidate.Complete(ctx, digits)
		if err == nil {
			return state, nil
		}
		switch reason := agent.Reason(err); {
		case errors.Is(err, agent.ErrRequestOver):
			return agent.State{}, trustRefusal(err)
		case reason == pb.ErrorReason_ERROR_REASON_SIGN_IN_PENDING:
			env.say(env.err, "Nobody has allowed it yet, so there is no code. When a trusted device shows one, type it.\n")
		case reason == pb.ErrorReason_ERROR_REASON_CODE_WRONG:
			env.say(env.err, "%v. Tries left: %s\n", err, text.Escape(agent.Metadata(err, "tries_left")))
		default:
			return agent.State{}, trustRefusal(err)
		}
	}
}

// trustRefusal gives an error its exit code.
func trustRefusal(err error) error {
	switch {
	case agent.Reason(err) == pb.ErrorReason_ERROR_REASON_CODE_WRONG, agent.Reason(err) == pb.ErrorReason_ERROR_REASON_TOO_MANY_TRIES,
		agent.Reason(err) == pb.ErrorReason_ERROR_REASON_TOO_MANY_FAILURES:
		return exitErr{err, exitWrongCode}
	case errors.Is(err, agent.ErrRequestOver):
		return exitErr{err, exitNotInTime}
	}
	return explain(err)
}

// server returns how the server that is to be asked is known. If the command
// line does not say, a person compares its key with what a trusted device shows.
func (c *enrollCmd) server(ctx context.Context, env *environment) (agent.Server, error) {
	server := agent.Server{Address: c.Server, Pin: c.Pin}
	if c.Pin != "" || c.Roots {
		return server, nil
	}
	if begun, err := agent.LoadState(env.dir); err == nil && begun.Server == c.Server {
		server.Pin = begun.Pin // compared before
		return server, nil
	}
	if env.tty == nil {
		return agent.Server{}, errors.New("nobody is there to compare the server's key: give --pin with its key id, or --roots if its certificate is one that browsers accept")
	}
	key, err := agent.ServerKey(ctx, c.Server)
	if err != nil {
		return agent.Server{}, err
	}
	compare := "On a device that is trusted already,  " + program + " status  shows the server's key in the same words. If they differ, somebody stands between, and would get to know your code."
	if c.Recovery {
		compare = "The same words were shown below your recovery codes. If they differ, somebody stands between, and would get to know your code."
	}
	env.say(env.err, `The server at %s shows this key:

  %s

%s
`, text.Escape(c.Server), agent.Fingerprint(key), compare)
	same, err := env.confirm(ctx, "Are the words the same?")
	if err != nil {
		return agent.Server{}, err
	}
	if !same {
		return agent.Server{}, errors.New("the server's key was not confirmed: nothing was sent to it")
	}
	server.Pin = key
	return server, nil
}

// confirm asks a question on the terminal. Whatever is not a yes is a no.
func (env *environment) confirm(ctx context.Context, question string) (bool, error) {
	env.say(env.err, "%s [y/N] ", question)
	line, err := env.readLine(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}
