package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// The lines of the programs that the story waits for.
var (
	serverReady = regexp.MustCompile(`ready, listening on (\S+)$`)
	agentReady  = regexp.MustCompile(`^connected`)
	asked       = regexp.MustCompile(`^Answer with `)
	askedWhy    = regexp.MustCompile(`^Why\?`)
	showsCode   = regexp.MustCompile(`^code: (\d{3} \d{3})$`)
	codeEnds    = regexp.MustCompile(`^Never read this code`)
	withdrawn   = regexp.MustCompile(`^withdrawn: `)
	anything    = regexp.MustCompile(``)
	denied      = regexp.MustCompile(`denied on a trusted device`)
	begun       = regexp.MustCompile(`^asked: `)
	approved    = regexp.MustCompile(`^approved: `)
)

// play tells the story. It returns nil if the sign-in was verified and all that
// was signed checks.
func (s *stage) play(ctx context.Context) error {
	fmt.Println("Countersign: one sign-in from beginning to end.")
	fmt.Printf("All of it happens in %s, which is removed afterwards.\n", s.dir)
	if err := s.openHouse(ctx); err != nil {
		return err
	}
	phone, err := s.enroll(ctx, "phone", "Ada's phone")
	if err != nil {
		return err
	}
	tablet, err := s.enroll(ctx, "tablet", "Ada's tablet")
	if err != nil {
		return err
	}
	if err := s.register(ctx); err != nil {
		return err
	}
	signIn, err := s.begin(ctx, phone, tablet)
	if err != nil {
		return err
	}
	code, err := s.decide(ctx, phone, tablet, signIn)
	if err != nil {
		return err
	}
	a, err := s.typeCode(ctx, signIn, code)
	if err != nil {
		return err
	}
	return s.check(ctx, a)
}

func (s *stage) openHouse(ctx context.Context) error {
	s.step("A server")
	s.command("countersign-server", "serve", "--listen", "127.0.0.1:0")
	server, err := s.start(s.server, "serve", "--listen", "127.0.0.1:0", "--data-dir", "server")
	if err != nil {
		return err
	}
	_, ready, err := server.await(ctx, serverReady)
	if err != nil {
		return err
	}
	s.say("made its keys and an empty database, and listens on %s", ready[1])

	s.step("Ada, and two devices that she trusts")
	return s.admin(ctx, &struct{}{}, "account", "add", "ada")
}

// enroll makes a trusted device and leaves its agent running.
func (s *stage) enroll(ctx context.Context, kind, name string) (*process, error) {
	var invitation struct{ Link string }
	if err := s.admin(ctx, &invitation, "invite", "create", "ada"); err != nil {
		return nil, err
	}
	s.command("countersign-agent", "enroll", invitation.Link[:len("countersign://")]+"…", "--name", name)
	if _, err := output(ctx, s.dir, s.agent, "enroll", invitation.Link, "--name", name, "--kind", kind, "--dir", kind); err != nil {
		return nil, err
	}
	s.command("countersign-agent", "run")
	p, err := s.start(s.agent, "run", "--dir", kind)
	if err != nil {
		return nil, err
	}
	_, _, err = p.await(ctx, agentReady)
	return p, err
}

func (s *stage) register(ctx context.Context) error {
	s.step("An application")
	var credentials any
	if err := s.admin(ctx, &credentials, "app", "add", "files", "--name", "Files"); err != nil {
		return err
	}
	s.say("it has a token now, with which it may ask for approvals")
	return s.keep("files.json", credentials)
}

// begin begins the sign-in and waits until both devices ask.
func (s *stage) begin(ctx context.Context, phone, tablet *process) (*process, error) {
	s.step("Somebody types Ada's password on a laptop nobody has seen before")
	requester := []string{"--requester-address", "198.51.100.7", "--place", "Lisbon, Portugal", "--device", "MacBook Air", "--program", "Firefox 145"}
	s.command("countersign-agent", append([]string{"sign-in", "ada"}, requester...)...)
	signIn, err := s.start(s.agent, append([]string{"sign-in", "ada", "--credentials", "files.json", "--json"}, requester...)...)
	if err != nil {
		return nil, err
	}
	for _, device := range []struct {
		name    string
		process *process
		last    *regexp.Regexp
	}{{"laptop", signIn, begun}, {"phone", phone, asked}, {"tablet", tablet, asked}} {
		lines, _, err := device.process.await(ctx, device.last)
		if err != nil {
			return nil, err
		}
		s.screen(device.name, lines)
	}
	return signIn, nil
}

var errDenied = errors.New("it was not allowed, so nobody was let in. Run the demo again to see the other end")

// decide answers on the phone and returns the code that it shows.
func (s *stage) decide(ctx context.Context, phone, tablet, signIn *process) (string, error) {
	s.step("Ada answers, on her phone")
	for {
		answer, err := s.ask(ctx, "a to allow, d to deny:", "a")
		if err != nil {
			return "", err
		}
		if answer != "a" && answer != "d" {
			s.say("(nothing is decided until it is a or d)")
			continue
		}
		fmt.Fprintln(phone.stdin, answer)
		if answer == "d" {
			lines, _, err := phone.await(ctx, askedWhy)
			s.screen("phone", lines)
			if err == nil {
				lines, _, err = signIn.await(ctx, denied)
				s.screen("laptop", lines)
			}
			return "", cmp.Or(err, errDenied)
		}
		break
	}
	lines, code, err := phone.await(ctx, showsCode)
	if err != nil {
		return "", err
	}
	rest, _, err := phone.await(ctx, codeEnds)
	if err != nil {
		return "", err
	}
	s.screen("phone", append(lines, rest...))
	gone, _, err := tablet.await(ctx, withdrawn)
	if err != nil {
		return "", err
	}
	s.screen("tablet", gone)
	return code[1], nil
}

// typeCode types the code where the sign-in began and returns what the
// application got for it.
func (s *stage) typeCode(ctx context.Context, signIn *process, code string) (admission, error) {
	s.step("The code, typed on the laptop")
	if _, _, err := signIn.await(ctx, approved); err != nil {
		return admission{}, err
	}
	for {
		typed, err := s.ask(ctx, "the six digits from the phone:", code)
		if err != nil {
			return admission{}, err
		}
		fmt.Fprintln(signIn.stdin, typed)
		lines, _, err := signIn.await(ctx, anything)
		if err != nil {
			return admission{}, err
		}
		if strings.HasPrefix(lines[0], "{") {
			var a admission
			err := json.Unmarshal([]byte(lines[0]), &a)
			s.screen("laptop", []string{"signed in as " + a.Account})
			return a, err
		}
		s.screen("laptop", lines)
	}
}
