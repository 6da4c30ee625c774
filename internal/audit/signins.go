package audit

import (
	"fmt"

	"github.com/countersignd/countersign/internal/statement"
)

// This file has the rules about sign-ins, devices that ask to be trusted among them.

func (t *trust) remember(s *signIn) string {
	if t.signIns[s.id] != nil {
		return "its sign-in had begun before"
	}
	t.signIns[s.id] = s
	t.begun = append(t.begun, s)
	return ""
}

func (t *trust) trustRequested(r Record) string {
	if _, problem := t.active(r); problem != "" {
		return problem
	}
	e, _, err := statement.VerifyEnrollment(r.Device, r.Statement)
	switch {
	case err != nil:
		return fmt.Sprintf("its statement was not signed so by the device that asks: %v", err)
	case e.Account != r.Account:
		return "its statement is about another account"
	case e.Name != r.Detail:
		return "the name in it is not the one that the device has signed"
	}
	if problem := t.addressed(e.Aud); problem != "" {
		return problem
	}
	return t.remember(&signIn{id: r.SignIn, account: r.Account, address: r.Address, candidate: r.Device, begun: r.Time})
}

func (t *trust) signInBegun(r Record) string {
	if _, problem := t.active(r); problem != "" {
		return problem
	}
	return t.remember(&signIn{id: r.SignIn, account: r.Account, application: r.Application, address: r.Address, begun: r.Time})
}

// open returns the sign-in of a record, which must be one that something can
// still happen to.
func (t *trust) open(r Record) (*signIn, string) {
	s := t.signIns[r.SignIn]
	switch {
	case s == nil:
		return nil, "no record says that its sign-in had begun in the hour before"
	case s.account != r.Account || s.application != r.Application:
		return nil, "its sign-in is another account's or application's"
	case s.over != "":
		return nil, "its sign-in was over: " + s.over
	}
	return s, ""
}

// signInRungAgain checks that there was still something to answer.
func (t *trust) signInRungAgain(r Record) string {
	if _, problem := t.active(r); problem != "" {
		return problem
	}
	s, problem := t.open(r)
	switch {
	case problem != "":
		return problem
	case s.allowed != "":
		return "its sign-in had been allowed"
	}
	return ""
}

// decided checks a decision: that the device signed it, that it saw what the
// record says of the sign-in, and that it could still decide.
func (t *trust) decided(r Record) string {
	if _, problem := t.active(r); problem != "" {
		return problem
	}
	d, c, problem := signed(t, r, r.Device, ofDecision)
	if problem != "" {
		return problem
	}
	s, problem := t.open(r)
	if problem != "" {
		return problem
	}
	prompt, err := statement.ParsePrompt(d.PromptBytes())
	rose := t.devices[r.Device].rise(c.counter)
	allows := r.Event == EventSignInAllowed
	switch {
	case err != nil:
		return fmt.Sprintf("the prompt in its statement cannot be read: %v", err)
	case allows && !rose:
		return "the counter in its statement had been used before, so it is a replay"
	case r.Actor != Actor{ID: r.Device, Kind: ActorDevice}:
		return "it names another actor than the device that signed"
	case d.SignIn != r.SignIn || d.Application != r.Application:
		return "its statement is about another sign-in"
	case (d.Decision == statement.Allow) != allows:
		return "the device has signed the other decision: " + d.Decision
	}
	// A denial takes effect though its counter did not rise, and voids an allow.
	s.allowed = ""
	if allows {
		s.allowed = r.Device
	}
	switch {
	case d.Reason != r.Detail:
		return "the reason in it is not the one that the device has signed"
	case prompt.Created != s.begun.Unix():
		return "the device was shown another time than that at which the sign-in began"
	case prompt.Requester.Address != s.address:
		return "the device was shown another address than the record has"
	case (prompt.Candidate != nil) != (s.candidate != "") || prompt.Candidate != nil && prompt.Candidate.Fingerprint != s.candidate:
		return "the device was shown another new device than the one that asked"
	}
	return ""
}

// What the detail of a verified sign-in says of the code that was typed.
const (
	afterAllow = "urn:countersign:acr:code"
	askedFor   = "urn:countersign:acr:requested"
)

// signInVerified checks that somebody had signed for the code that let in.
func (t *trust) signInVerified(r Record) string {
	a, problem := t.active(r)
	if problem != "" {
		return problem
	}
	if _, problem := t.trusted(r, r.Device); problem != "" {
		return problem
	}
	s, problem := t.open(r)
	switch {
	case problem != "":
		return problem
	case r.Detail == afterAllow && s.allowed != r.Device:
		return fmt.Sprintf("it says that a code of the device %.12s was used, which had not allowed the sign-in", r.Device)
	case r.Detail == askedFor && a.asked != r.Device:
		return fmt.Sprintf("it says that a code of the device %.12s was used, which had not asked for one", r.Device)
	}
	if r.Detail == askedFor {
		a.asked = ""
	}
	s.over = "it was verified"
	return ""
}

func (t *trust) signInCancelled(r Record) string {
	s, problem := t.open(r)
	if problem != "" {
		return problem
	}
	s.over = "it was cancelled"
	return ""
}

func (t *trust) codeRequested(r Record) string {
	if _, problem := own(t, r, ofCodeRequest); problem != "" {
		return problem
	}
	if r.Device != r.Actor.ID {
		return "it names another device than the one that signed"
	}
	t.accounts[r.Account].asked = r.Device
	return ""
}
