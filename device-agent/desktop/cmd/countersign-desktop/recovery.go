package main

import (
	"context"

	"fyne.io/fyne/v2"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/desktop/window"
	"github.com/countersignd/countersign/internal/recovery"
)

// recoveryCodes shows recovery codes, this once, and says what they are for. Neither
// Escape nor an error takes them away: only the button does.
func (h *home) recoveryCodes(state agent.State, codes []string, then func()) func(*window.Sheet) {
	return func(s *window.Sheet) {
		h.kept = true
		s.Title("codes.title")
		s.Strong("codes.now")
		s.Codes(codes)
		s.Say("codes.what")
		s.Say("codes.how")
		s.Field("home.server", state.Server)
		s.Field("field.account", state.Account)
		if state.Pin != "" {
			s.Words("home.server-words", state.Pin)
		}
		s.Buttons(window.Button{Label: "codes.written", Do: func() { h.leave(then) }})
	}
}

// renew asks whether to make new recovery codes.
func (h *home) renew(s *window.Sheet) {
	a := h.d.agent
	s.Title("renew.title")
	s.Say("renew.what")
	s.Strong("renew.void")
	s.Buttons(h.back(), window.Button{Label: "renew.do", Do: func() {
		h.turnTo(func(s *window.Sheet) { s.Title("renew.title"); s.Say("devices.asking") })
		h.d.call(func(ctx context.Context) error {
			codes, err := a.NewRecoveryCodes(ctx)
			if err == nil {
				fyne.Do(func() {
					h.turnTo(h.recoveryCodes(h.d.state, codes, func() { h.turnTo(h.status) }))
				})
			}
			return err
		})
	}})
}

// recover enrols this device with a recovery code, or goes on with that.
func (h *home) recover(in agent.Asking) {
	in.Vaults, in.Vault = h.d.vaults(), h.vault(in.Passphrase)
	h.wait()
	h.do(func(ctx context.Context) error {
		r, err := agent.Recover(ctx, in)
		if err == nil {
			fyne.Do(func() { h.recovering(r, in, nil) })
		}
		return err
	}, func(err error) { h.turnTo(h.ask(byRecovery, in, err)) })
}

// recovering asks for a recovery code, or says how long this device has to wait.
func (h *home) recovering(r *agent.Recovery, in agent.Asking, problem error) {
	state := r.State()
	switch {
	case state.Phase == agent.Trusted:
		h.enrolled(agent.Enrolled{State: state}, in.Passphrase)
	case state.TrustTime > 0:
		h.turnTo(func(s *window.Sheet) {
			s.Title("recover-wait.title")
			s.Say("recover-wait.what", "time", r.TrustTime().Local().Format("2006-01-02 15:04"))
			s.Buttons(h.quit(), window.Button{Label: "home.again", Do: func() { h.recover(agent.Asking{Dir: in.Dir, Kind: kind, Name: state.Name, Passphrase: in.Passphrase}) }})
		})
	default:
		h.turnTo(func(s *window.Sheet) {
			s.Title("recover.title")
			s.Say("recover.code", "account", state.Account)
			if problem != nil {
				h.trouble(s, problem)
			}
			e := s.Entry("recover.label", "", false)
			use := func() {
				typed := e.Text
				if _, err := recovery.Parse(typed); err != nil { // not sent
					h.recovering(r, in, h.said("typed.recovery-code"))
					return
				}
				h.wait()
				h.do(func(ctx context.Context) error {
					err := r.Use(ctx, typed)
					if err == nil {
						fyne.Do(func() { h.recovering(r, in, nil) })
					}
					return err
				}, func(err error) { h.recovering(r, in, err) })
			}
			e.OnSubmitted = func(string) { use() }
			s.Buttons(h.quit(), window.Button{Label: "recover.use", Do: use})
		})
	}
}
