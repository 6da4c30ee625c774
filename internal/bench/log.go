package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"math/bits"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
)

// benchLog measures how fast a record is verified, beside the hashes and the
// signatures alone that this takes, and how large the proof is that one tree
// continues another.
func benchLog(ctx context.Context, s *stage) error {
	p, err := s.role("log")
	if err != nil {
		return err
	}
	f := figure{name: "log", unit: "records/s"}
	const parts = 10
	for range parts {
		part, err := ask[LogPart](ctx, p, "Verify", LogArgs{Records: s.sizes.records / parts})
		if err != nil {
			return err
		}
		n := float64(part.Records)
		f.add(n/part.Ours.Seconds(), n/part.Limit.Seconds(), part.Records)
	}
	s.print(&f)
	proof, err := ask[LogProof](ctx, p, "Prove", None{})
	if err != nil {
		return err
	}
	g := figure{name: "log/proof", unit: "bytes"}
	// Half of what RFC 6962, 2.1.2, lets a proof have at most, is one hash for
	// each level of the tree.
	g.add(float64(proof.Bytes), float64(bits.Len64(proof.Records-1)*tlog.HashSize), 1)
	s.print(&g)
	return nil
}

// logAccounts is how many accounts, with a device each, the record tells of.
const logAccounts = 100

// Log makes a record such as the product writes, and verifies it.
type Log struct {
	deployment, serverKey string
	devices               []*Device
	verifier              *audit.Verifier
	stored                hashes // the tree, as it is stored
	previous              tlog.Hash
	size                  uint64
	now                   time.Time
	hashed                byte // of the limit, so that nothing is left out
}

// LogArgs say how many records to make and verify, behind those before.
type LogArgs struct{ Records int }

// LogPart is how long it took.
type LogPart struct {
	Records     int
	Ours, Limit time.Duration
}

// Verify makes records and verifies them.
func (l *Log) Verify(args LogArgs, part *LogPart) error {
	var documents [][]byte
	if l.verifier == nil {
		begun, err := l.begin()
		if err != nil {
			return err
		}
		documents = begun
	}
	for i := 0; len(documents) < args.Records; i++ {
		more, err := l.signIn(l.devices[i%len(l.devices)])
		if err != nil {
			return err
		}
		documents = append(documents, more...)
	}
	began := time.Now()
	for _, document := range documents {
		l.verifier.Add(document)
	}
	part.Ours, part.Records = time.Since(began), len(documents)
	return l.limit(documents, part)
}

// limit does what cannot be left out: two hashes for each document, and each
// signature.
func (l *Log) limit(documents [][]byte, part *LogPart) error {
	type signature struct {
		key *ecdsa.PublicKey
		jws string
	}
	var signatures []signature
	keys := map[string]*ecdsa.PublicKey{}
	for _, d := range l.devices {
		keys[d.ID] = &d.approval.PublicKey
	}
	for _, document := range documents {
		r, err := audit.Parse(document)
		if err != nil {
			return err
		}
		if r.Statement != "" {
			signatures = append(signatures, signature{keys[r.Device], r.Statement})
		}
	}
	began := time.Now()
	for _, document := range documents {
		h := tlog.NodeHash(audit.Hash(document), tlog.Hash{})
		l.hashed ^= h[0]
	}
	for _, s := range signatures {
		if !signedBy(s.key, s.jws) {
			return fmt.Errorf("a signature is wrong")
		}
	}
	part.Limit = time.Since(began)
	return nil
}

// begin makes the beginning of a record: accounts and devices.
func (l *Log) begin() (documents [][]byte, err error) {
	if l.verifier, err = audit.NewVerifier(); err != nil {
		return nil, err
	}
	l.deployment = strings.ToLower(rand.Text())
	if l.serverKey, err = pin.KeyID(newKey().Public()); err != nil {
		return nil, err
	}
	l.now = time.Now().UTC()
	for i := range logAccounts {
		d, err := newDevice(accountName(i))
		if err != nil {
			return nil, err
		}
		l.devices = append(l.devices, d)
		signed, err := d.enrollment(l.deployment, l.serverKey, pin.Base32.EncodeToString(make([]byte, 32)))
		if err != nil {
			return nil, err
		}
		administrator := audit.Actor{Kind: audit.ActorAdministrator, ID: "uid 0 (root)"}
		documents = append(documents,
			l.document(audit.Record{Event: audit.EventAccountAdded, Account: d.Account, Actor: administrator}),
			l.document(audit.Record{Event: audit.EventDeviceEnrolled, Account: d.Account, Actor: administrator, Device: d.ID, Detail: "Device " + d.ID[:8], Statement: signed}))
	}
	return documents, nil
}

// signIn makes the three documents of a sign-in.
func (l *Log) signIn(d *Device) ([][]byte, error) {
	id := signInID()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	l.now = l.now.Add(time.Second)
	prompt := statement.Prompt{
		Account: d.Account, Action: statement.ActionSignIn, Application: statement.Application{ID: application, Name: applicationName},
		Created: l.now.Unix(), Expires: l.now.Unix() + 300, Nonce: base64.RawURLEncoding.EncodeToString(nonce),
		Requester: statement.Requester{Address: requester.Address, Device: requester.Device, Place: requester.Place, Program: requester.Program},
		SignIn:    id, V: 1,
	}
	signed, err := d.decision(Target{Name: l.deployment, Pin: l.serverKey}, prompt.Encode())
	if err != nil {
		return nil, err
	}
	by := audit.Actor{Kind: audit.ActorApplication, ID: application}
	about := audit.Record{Account: d.Account, Application: application, SignIn: id, Actor: by, Address: requester.Address}
	begun, allowed, verified := about, about, about
	begun.Event, begun.Detail = audit.EventSignInBegun, "known"
	allowed.Event, allowed.Actor, allowed.Device, allowed.Statement = audit.EventSignInAllowed, audit.Actor{Kind: audit.ActorDevice, ID: d.ID}, d.ID, signed
	verified.Event, verified.Device, verified.Detail = audit.EventSignInVerified, d.ID, "urn:countersign:acr:code"
	return [][]byte{l.document(begun), l.document(allowed), l.document(verified)}, nil
}

// document makes the next document of the record.
func (l *Log) document(r audit.Record) []byte {
	if l.size > 0 {
		r.Previous = audit.HashString(l.previous)
	}
	r.Sequence, r.Time, r.Salt = l.size+1, l.now, audit.NewSalt()
	document := r.Document()
	l.previous = audit.Hash(document)
	fresh, err := tlog.StoredHashesForRecordHash(int64(l.size), l.previous, l.stored)
	if err != nil {
		panic(err) // all hashes are in memory
	}
	l.stored = append(l.stored, fresh...)
	l.size++
	return document
}

// hashes are a tree in the order in which it is stored.
type hashes []tlog.Hash

// ReadHashes implements [tlog.HashReader].
func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		found[i] = h[index]
	}
	return found, nil
}

// LogProof is a proof that the tree continues an older one.
type LogProof struct {
	Records uint64
	Bytes   int
}

// Prove makes a proof for a device that was last there when there were two thirds
// of the records, and makes sure that the record was in order so far.
func (l *Log) Prove(_ None, p *LogProof) error {
	proof, err := tlog.ProveTree(int64(l.size), int64(l.size*2/3), l.stored)
	if err != nil {
		return err
	}
	p.Records, p.Bytes = l.size, len(proof)*tlog.HashSize
	root, err := tlog.TreeHash(int64(l.size), l.stored)
	if err != nil {
		return err
	}
	checkpoint, err := audit.NewCheckpoint(newKey(), l.deployment, l.size, root, l.now)
	if err != nil {
		return err
	}
	if result := l.verifier.Finish(checkpoint); len(result.Findings) > 0 {
		return fmt.Errorf("the record that was made is not in order: %s", result.Findings[0])
	}
	return nil
}
