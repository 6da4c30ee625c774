package approval

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/statement"
)

// Requests to be trusted come from strangers, who know an account's name and
// nothing else. They learn nothing from the answers, and ring within the budget
// of strangers. Those beyond it are dropped, since nobody may wait for them who
// could be told to open the agent.

// Requesting is a device's request to be trusted by an account's devices.
type Requesting struct {
	Device    string // key id of the TLS client key
	Statement string // countersign-enrollment+jws that names the account
	Address   string // where it came from
}

// RequestTrust asks an account's devices to trust the caller. It returns an id
// and the end of the request, and does not tell whether anybody was asked: for
// an account that does not exist, is suspended, has no device, was rung enough
// or is being asked already, the answer looks the same and took the same kind
// of transaction. So the id tells no more than when it was made; what the
// caller has asked for is found by its key.
func (b *Broker) RequestTrust(ctx context.Context, in Requesting) (id string, expires time.Time, err error) {
	e, candidate, err := b.announced(in.Device, in.Statement)
	if err != nil {
		return "", time.Time{}, err
	}
	if e.Account == "" || e.Recovery != "" {
		return "", time.Time{}, refuse(ReasonStatementMismatch, "The statement does not ask the devices of an account.")
	}
	if err := b.room(); err != nil {
		return "", time.Time{}, err
	}

	now := b.now()
	s := SignIn{
		ID: newSignInID(now), Account: e.Account, Candidate: &candidate, Lane: LaneEnrolment,
		Requester: Requester{Address: in.Address, Device: candidate.Name}, Source: requesterSource(in.Address, ""),
		Begun: now, Rings: 1, Rung: now, Expires: now.Add(defaultPromptLifetime), CodeLifetime: defaultCodeLifetime, MaxTries: maxTries,
		Recorded: Pending,
	}
	var ring []string
	err = b.update(ctx, func(tx *transaction) error {
		ring = nil
		if err := unusedKeys(tx, candidate.Device, candidate.ApprovalID); err != nil {
			return err
		}
		old, err := candidacy(tx, in.Device)
		if err != nil {
			return err
		}
		again := old != nil && old.Account == e.Account && old.Candidate.ApprovalID == candidate.ApprovalID &&
			old.open(now)
		if !again {
			if ring, err = b.mayRingForTrust(tx, e.Account, s.Source, now); err != nil {
				return err
			}
		}
		if len(ring) == 0 {
			return tx.Put(bucketMeta, keyDecoy, []byte(s.ID))
		}
		begun := s
		return openTrustRequest(tx, now, &begun)
	})
	if err != nil {
		return "", time.Time{}, err
	}
	if len(ring) > 0 {
		b.ring(ring, s.ID)
	}
	return s.ID, s.Expires, nil
}

// candidacy returns the newest sign-in in which the device asks to be trusted,
// or nil.
func candidacy(tx *transaction, device string) (*SignIn, error) {
	id, err := tx.Get(bucketCandidates, device)
	if err != nil || id == nil {
		return nil, err
	}
	s, err := load[SignIn](tx, bucketSignIns, string(id))
	if err != nil || s == nil || s.Candidate == nil || s.Candidate.Device != device {
		return nil, err
	}
	return s, nil
}

// unusedKeys refuses keys that any device ever had.
func unusedKeys(tx *transaction, ids ...string) error {
	for _, id := range ids {
		owner, err := tx.Get(bucketKeys, id)
		if err != nil {
			return err
		}
		if owner != nil {
			return refuse(ReasonKeyInUse, "One of the two keys belongs to a device already. Enrol with new keys.")
		}
	}
	return nil
}

// mayRingForTrust returns whom to ring, nobody if the account does not bear
// it, and counts the ring. What refuses most requests comes first, and reads
// little, so that time tells a stranger little of whether the account exists.
func (b *Broker) mayRingForTrust(tx *transaction, account, source string, now time.Time) ([]string, error) {
	a, err := load[Account](tx, bucketAccounts, account)
	if err != nil || active(a) != nil {
		return nil, err
	}
	r, err := loadRinging(tx, account, now)
	if err != nil || r.silence(LaneEnrolment, source, now) != "" {
		return nil, err
	}
	devices := b.trustedIDs(tx, account, now)
	if len(devices) == 0 {
		return nil, nil
	}
	open, err := openSignIns(tx, account, now)
	if err != nil {
		return nil, err
	}
	if err := forgetOver(tx, account, open); err != nil {
		return nil, err
	}
	asking := 0
	for _, s := range open {
		if s.Lane == LaneEnrolment {
			asking++
		}
	}
	if asking >= maxOpenEnrolment {
		return nil, nil
	}
	r.rang(LaneEnrolment, source, now)
	return devices, r.save(tx, account)
}

func openTrustRequest(tx *transaction, now time.Time, s *SignIn) error {
	if err := recordSignIn(tx, now, s, Record{
		Event: EventTrustRequested, Actor: Actor{Kind: ActorDevice, ID: s.Candidate.Device}, Device: s.Candidate.Device,
		Address: s.Requester.Address, Detail: s.Candidate.Name, Statement: s.Candidate.Statement,
	}); err != nil {
		return err
	}
	if err := tx.Put(bucketCandidates, s.Candidate.Device, []byte(s.ID)); err != nil {
		return err
	}
	if err := addToAccount(tx, s); err != nil {
		return err
	}
	return saveSignIn(tx, now, s)
}

// CompleteTrust takes the code that a trusted device showed, and trusts the
// caller, in one transaction. It may be repeated by the device it trusted.
func (b *Broker) CompleteTrust(ctx context.Context, device, id, typed, address string) (Device, error) {
	digits, err := code.Parse(typed)
	if err != nil {
		return Device{}, invalidField("code", "%v", err)
	}
	if !statement.ValidSignIn(id) {
		return Device{}, invalidField("request_id", "want the 26 characters that RequestTrust returned")
	}
	now := b.now()
	var v verification
	var enrolled Device
	var signIn string
	var refusal error
	var ring []string
	err = b.update(ctx, func(tx *transaction) error {
		v, enrolled, signIn, refusal, ring = verification{}, Device{}, "", nil, nil
		old, err := load[Device](tx, bucketDevices, device)
		if err != nil {
			return err
		}
		if old != nil {
			enrolled = *old
			return old.mayRepeat(old.TrustRequest != "")
		}
		s, err := candidacy(tx, device)
		if err != nil {
			return err
		}
		if s == nil {
			return b.unanswered(id, now)
		}
		a, err := load[Account](tx, bucketAccounts, s.Account)
		if err != nil {
			return err
		}
		if state := s.At(now); active(a) != nil || state != Approved && s.CancelCause != CancelTooManyTries {
			return b.unanswered(id, now)
		}
		if v, err = b.outstanding(tx, a, s, now); err != nil {
			return err
		}
		v.requested, v.six = nil, digits // only a code after Allow makes a device trusted
		after, err := s.next(step{kind: stepTry, barred: v.failures.barred(codesShown, now), matches: v.compare}, now)
		if after.Tries == s.Tries {
			return err // nothing was compared, so nothing has changed
		}
		if refusal = err; refusal == nil {
			if enrolled, err = b.trust(tx, now, a, &after, address); err != nil {
				return err
			}
		}
		ring, signIn = b.trustedIDs(tx, a.Name, now), s.ID
		return v.write(tx, now, Actor{Kind: ActorDevice, ID: device}, &after)
	})
	if err != nil {
		return Device{}, err
	}
	b.ring(ring, signIn)
	b.warnClosed(&v)
	return enrolled, refusal
}

// unanswered is the one answer about a request that was not allowed, be it
// that nobody has answered, that it was denied, or that it never was. Its id
// holds the time it was made.
func (b *Broker) unanswered(id string, now time.Time) error {
	raw, err := idAlphabet.DecodeString(id)
	if err != nil {
		return invalidField("request_id", "want the 26 characters that RequestTrust returned")
	}
	made := time.UnixMilli(int64(binary.BigEndian.Uint64(raw) >> 16))
	if now.Before(made.Add(defaultPromptLifetime)) {
		return refuse(ReasonSignInPending, "Nobody has allowed this yet on a trusted device, so there is no code.")
	}
	return refuse(ReasonSignInExpired, "The request was not allowed in time. Ask again.")
}

// trust makes the candidate of a verified request a trusted device.
func (b *Broker) trust(tx *transaction, now time.Time, a *Account, s *SignIn, address string) (Device, error) {
	if a.Trusted >= b.devices {
		return Device{}, tooManyDevices(a)
	}
	d := s.Candidate.enrolled(a.Name, Actor{Kind: ActorDevice, ID: s.DecidedBy}, now)
	d.TrustRequest = s.ID
	return d, addDevice(tx, now, a, &d, address)
}
