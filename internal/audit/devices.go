package audit

import (
	"fmt"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
)

// This file has the rules about who becomes a trusted device, and who stays one.

func (t *trust) deviceEnrolled(r Record) string {
	if r.Actor.Kind == ActorRecovery {
		return t.recovered(r)
	}
	if r.Actor.Kind == ActorDevice {
		if problem := t.approved(r); problem != "" {
			return problem
		}
	}
	_, problem := t.announced(r)
	return problem
}

// announced checks the statement by which a device announces its keys, and takes
// it in as one that its account trusts.
func (t *trust) announced(r Record) (*device, string) {
	if _, problem := t.active(r); problem != "" {
		return nil, problem
	}
	e, key, err := statement.VerifyEnrollment(r.Device, r.Statement)
	if err != nil {
		return nil, fmt.Sprintf("its statement was not signed so by the new device: %v", err)
	}
	approval, err := pin.KeyID(key)
	if err != nil {
		return nil, fmt.Sprintf("the device's approval key cannot be used: %v", err)
	}
	switch {
	case t.keys[r.Device] != "" || t.keys[approval] != "":
		return nil, "one of the device's keys belonged to a device before"
	case e.Account != "" && e.Account != r.Account:
		return nil, "its statement is about another account"
	case (e.Recovery != "") != (r.Event == EventRecoveryUsed):
		return nil, "its statement was signed for another way in"
	case e.Name != r.Detail && r.Event == EventDeviceEnrolled:
		return nil, "the name in it is not the one that the device has signed"
	}
	t.keys[r.Device], t.keys[approval] = r.Device, r.Device
	d := &device{account: r.Account, key: key}
	t.devices[r.Device] = d
	return d, t.addressed(e.Aud)
}

// recoveryUsed takes in a device that has handed in a recovery code: it waits
// until a record says that it is enrolled, if only for a moment.
func (t *trust) recoveryUsed(r Record) string {
	d, problem := t.announced(r)
	if d != nil {
		d.waiting, d.announcement = true, r.Statement
	}
	return problem
}

// recovered ends the waiting of a device.
func (t *trust) recovered(r Record) string {
	_, problem := t.active(r)
	d := t.devices[r.Device]
	switch {
	case problem != "":
		return problem
	case d == nil || d.account != r.Account || d.announcement == "":
		return "no record says that its device had handed in a recovery code"
	case d.revoked > 0:
		return fmt.Sprintf("record %d had revoked the device before", d.revoked)
	case !d.waiting:
		return "its device was enrolled before"
	case d.announcement != r.Statement:
		return "its statement is not the one with which the device had handed in a recovery code"
	}
	d.waiting = false
	return ""
}

// approved checks that the device which is said to have let another one in has
// signed that it did.
func (t *trust) approved(r Record) string {
	if _, problem := t.trusted(r, r.Actor.ID); problem != "" {
		return problem
	}
	for _, s := range t.begun {
		if s.candidate == r.Device && s.allowed == r.Actor.ID && s.account == r.Account && s.over == "" {
			return ""
		}
	}
	return fmt.Sprintf("no statement of the device %.12s says that it let the new device in", r.Actor.ID)
}

func (t *trust) deviceRevoked(r Record) string {
	target := t.devices[r.Device]
	switch {
	case target == nil || target.account != r.Account:
		return "no record says that its device was enrolled in this account"
	case target.revoked > 0:
		return fmt.Sprintf("record %d had revoked the device before", target.revoked)
	}
	if r.Actor.Kind == ActorDevice {
		v, c, problem := signed(t, r, r.Actor.ID, ofRevocation)
		switch {
		case problem != "":
			return problem
		case v.Revoked != r.Device:
			return "its statement revokes another device"
		case v.Reason != r.Detail:
			return "the reason in it is not the one that the device has signed"
		}
		// A revocation takes effect though its counter did not rise.
		t.devices[r.Actor.ID].rise(c.counter)
	} else if r.Statement != "" {
		return "it has a statement, though no device is said to have done it"
	}
	target.revoked = r.Sequence
	return ""
}

func (t *trust) deviceReadmitted(r Record) string {
	target := t.devices[r.Device]
	switch {
	case target == nil || target.account != r.Account:
		return "no record says that its device was enrolled in this account"
	case target.revoked > 0:
		return fmt.Sprintf("record %d had revoked the device before", target.revoked)
	case r.Actor.Kind == ActorAdministrator && r.Statement == "":
		return ""
	}
	m, problem := own(t, r, ofReadmission)
	if problem == "" && m.Readmitted != r.Device {
		return "its statement readmits another device"
	}
	return problem
}
