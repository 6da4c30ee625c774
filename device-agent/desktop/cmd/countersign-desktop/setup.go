package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"fyne.io/fyne/v2"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/window"
	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/text"
)

// kind is what this device is, as an enrolment says it.
const kind = "desktop"

// A way is how a device becomes trusted without an invitation. The zero way is by the
// approval of one that is trusted.
type way bool

const (
	byDevice   way = false
	byRecovery way = true // with a recovery code
)

// first is the first start: there are three ways to become a trusted device.
func (h *home) first(s *window.Sheet) {
	s.Title("first.title")
	s.Say("first.what")
	s.Rule()
	s.Say("first.invitation")
	s.Buttons(window.Button{Label: "first.use-invitation", Do: func() { h.prepare(h.invitation("", nil)) }})
	s.Rule()
	s.Say("first.ask")
	s.Buttons(window.Button{Label: "first.be-approved", Do: func() { h.prepare(h.ask(byDevice, agent.Asking{Name: h.d.host}, nil)) }})
	s.Rule()
	s.Say("first.recovery")
	s.Buttons(window.Button{Label: "first.use-recovery", Do: func() { h.prepare(h.ask(byRecovery, agent.Asking{Name: h.d.host}, nil)) }})
	s.Rule()
	s.Buttons(h.quit())
}

// said is a message as an error.
func (h *home) said(key string) error { return window.Said(h.d.messages.Say(key)) }

func (h *home) start() window.Button {
	return window.Button{Label: "home.back", Do: h.d.start}
}

// invited takes an invitation that was opened. It is never used without a press: any
// page can have one opened.
func (h *home) invited(link string) {
	if h.d.agent != nil || h.d.unlocking {
		h.turnTo(func(s *window.Sheet) {
			s.Title("first.enrolled")
			s.Say("first.enrolled.more")
			s.Buttons(h.back())
		})
		return
	}
	h.prepare(h.invitation(link, nil))
}

// invitation asks for an invitation, and for how this device is to be called.
func (h *home) invitation(link string, problem error) func(*window.Sheet) {
	return func(s *window.Sheet) {
		s.Title("invitation.title")
		s.Say("invitation.what")
		if parsed, err := invitation.Parse(link); err == nil {
			s.Strong("invitation.server", "server", parsed.Server)
		}
		if problem != nil {
			h.trouble(s, problem)
		}
		l := s.Entry("invitation.label", link, false)
		l.SetPlaceHolder("countersign://…")
		name := s.Entry("first.name", h.d.host, false)
		passphrase := s.Entry(h.sayPlace(s), "", true)
		s.Buttons(h.start(), window.Button{Label: "invitation.do", Do: func() {
			parsed, err := invitation.Parse(strings.TrimSpace(l.Text))
			if err != nil {
				h.turnTo(h.invitation(l.Text, h.said("typed.invitation")))
				return
			}
			h.enroll(agent.Enrollment{Link: parsed, Name: strings.TrimSpace(name.Text), Passphrase: passphrase.Text}, l.Text)
		}})
	}
}

// enroll has the server trust this device.
func (h *home) enroll(e agent.Enrollment, link string) {
	e.Dir, e.Kind, e.Vaults, e.Vault = h.d.dir, kind, h.d.vaults(), h.vault(e.Passphrase)
	h.wait()
	h.do(func(ctx context.Context) error {
		enrolled, err := agent.Enroll(ctx, e)
		if err == nil {
			fyne.Do(func() { h.enrolled(enrolled, e.Passphrase) })
		}
		return err
	}, func(err error) { h.turnTo(h.invitation(link, err)) })
}

// wait says that the server is asked.
func (h *home) wait() {
	h.turnTo(func(s *window.Sheet) {
		s.Title("first.title")
		s.Say("devices.asking")
	})
}

// do calls the server without a limit of its own: what it calls has one.
func (h *home) do(fn func(context.Context) error, failed func(error)) {
	h.d.aside(func() {
		if err := fn(h.d.ctx); err != nil && h.d.ctx.Err() == nil {
			fyne.Do(func() { failed(err) })
		}
	})
}

// ask asks for whom to ask to trust this device.
func (h *home) ask(by way, in agent.Asking, problem error) func(*window.Sheet) {
	return func(s *window.Sheet) {
		if by == byRecovery {
			s.Title("recover.title")
			s.Say("recover.what")
		} else {
			s.Title("ask-trust.title")
			s.Say("ask-trust.what")
		}
		if problem != nil {
			h.trouble(s, problem)
		}
		server := s.Entry("ask-trust.server", in.Server.Address, false)
		server.SetPlaceHolder("countersign.example:8443")
		account := s.Entry("field.account", in.Account, false)
		name := s.Entry("first.name", in.Name, false)
		passphrase := s.Entry(h.sayPlace(s), "", true)
		s.Buttons(h.start(), window.Button{Label: "ask-trust.do", Do: func() {
			in := agent.Asking{
				Dir: h.d.dir, Kind: kind, Server: agent.Server{Address: strings.TrimSpace(server.Text)},
				Account: strings.TrimSpace(account.Text), Name: strings.TrimSpace(name.Text), Passphrase: passphrase.Text,
			}
			h.wait()
			h.do(func(ctx context.Context) error {
				key, err := agent.ServerKey(ctx, in.Server.Address)
				if err == nil {
					fyne.Do(func() { h.turnTo(h.compare(by, in, key)) })
				}
				return err
			}, func(err error) { h.turnTo(h.ask(by, in, err)) })
		}})
	}
}

// compare has the server's key compared with what a trusted device shows.
func (h *home) compare(by way, in agent.Asking, key string) func(*window.Sheet) {
	return func(s *window.Sheet) {
		s.Title("compare.title")
		if by == byRecovery {
			s.Say("compare.paper")
		} else {
			s.Say("compare.what")
		}
		s.Fingerprint(key)
		s.Strong("compare.why")
		s.Buttons(
			window.Button{Label: "compare.no", Do: func() { h.turnTo(h.ask(by, in, h.said("compare.refused"))) }},
			window.Button{Label: "compare.yes", Do: func() {
				in.Server.Pin = key
				if by == byRecovery {
					h.recover(in)
				} else {
					h.askTrust(in)
				}
			}})
	}
}

// askTrust has the trusted devices asked.
func (h *home) askTrust(in agent.Asking) {
	in.Vaults, in.Vault = h.d.vaults(), h.vault(in.Passphrase)
	h.wait()
	h.do(func(ctx context.Context) error {
		c, err := agent.Ask(ctx, in)
		if err == nil {
			fyne.Do(func() { h.asked(c, in.Passphrase, nil) })
		}
		return err
	}, func(err error) { h.turnTo(h.ask(byDevice, in, err)) })
}

// asked waits for the code that a trusted device shows after Allow.
func (h *home) asked(c *agent.Candidate, passphrase string, problem error) {
	state := c.State()
	if state.Phase == agent.Trusted {
		h.enrolled(agent.Enrolled{State: state}, passphrase)
		return
	}
	h.turnTo(func(s *window.Sheet) {
		s.Title("asked.title")
		s.Say("asked.what", "account", state.Account, "time", c.ExpireTime().Local().Format("15:04:05"))
		s.Fingerprint(state.Device)
		s.Strong("asked.compare")
		if problem != nil {
			h.trouble(s, problem)
		}
		e := s.Entry("asked.code", "", false)
		complete := func() {
			digits, err := code.Parse(e.Text)
			if err != nil { // not sent, as it would use up a try
				h.asked(c, passphrase, h.said("typed.code"))
				return
			}
			h.wait()
			h.do(func(ctx context.Context) error {
				state, err := c.Complete(ctx, digits)
				if err == nil {
					fyne.Do(func() { h.enrolled(agent.Enrolled{State: state}, passphrase) })
				}
				return err
			}, func(err error) {
				if errors.Is(err, agent.ErrRequestOver) {
					h.fail(err)
					return
				}
				h.asked(c, passphrase, err)
			})
		}
		e.OnSubmitted = func(string) { complete() }
		s.Buttons(h.quit(), window.Button{Label: "asked.do", Do: complete})
	})
}

// begun goes on with what was begun and interrupted.
func (h *home) begun(s *window.Sheet) {
	s.Title("begun.title")
	s.Say("begun.what")
	passphrase := s.Entry("first.passphrase-if", "", true)
	s.Buttons(h.quit(), window.Button{Label: "begun.do", Do: func() {
		state, err := agent.LoadState(h.d.dir)
		switch {
		case err != nil:
			h.fail(err)
		case state.Phase == agent.Asked:
			h.askTrust(agent.Asking{Dir: h.d.dir, Kind: kind, Name: state.Name, Passphrase: passphrase.Text})
		case state.Phase == agent.Recovering:
			h.recover(agent.Asking{Dir: h.d.dir, Kind: kind, Name: state.Name, Passphrase: passphrase.Text})
		default:
			h.enroll(agent.Enrollment{Passphrase: passphrase.Text}, "")
		}
	}})
}

// hostName returns this machine's name as far as a device may be called so.
func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" || text.Check(name) != nil {
		return ""
	}
	return name
}
