package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/boltstore"
)

// Row is one row that an operation writes, or deletes if Value is empty. Key
// holds marks, see the constants below.
type Row struct {
	Bucket, Key string
	Value       []byte
	Place       int // which of the rows of a sign-in it is; the same for one that is written again
}

// What stands in a key for what is another in each sign-in.
const (
	markAccount = "\x01"
	markSignIn  = "\x02"
	markRecord  = "\x03" // sequence number
	markHash    = "\x04" // index in the tree, followed by how many hashes there were before in this sign-in
)

// recorded are the rows that the product writes for one sign-in, in its three
// transactions.
type recorded struct {
	Begin, Decide, Verify []Row
}

// The words of every sign-in here.
const (
	application     = "files"
	applicationName = "Files"
)

var requester = approval.Requester{Address: "192.0.2.7", Place: "Berlin, Germany", Device: "MacBook Air", Program: "Firefox 145"}

// rehearsed is how many sign-ins are rehearsed in one account: so many that its
// activity has grown as far as it does in the load, where accounts sign in again
// and again, from a requester whom the first one makes known.
const rehearsed = 20

// rehearse plays sign-ins through the Broker, without a server, and returns what
// the last one writes.
func rehearse(ctx context.Context, path string) (recorded, error) {
	bolt, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		return recorded{}, err
	}
	defer os.Remove(path)
	defer bolt.Close() // what is in it is not needed any more
	store := &recorder{Store: bolt}
	root := make([]byte, 32)
	rand.Read(root)
	secrets, err := approval.NewSecrets(root, newKey())
	if err != nil {
		return recorded{}, err
	}
	serverKey, err := pin.KeyID(newKey().Public())
	if err != nil {
		return recorded{}, err
	}
	broker, err := approval.Open(ctx, approval.Config{Store: store, Secrets: secrets, ServerKey: serverKey, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return recorded{}, err
	}
	admin := broker.Administrator(approval.Actor{Kind: approval.ActorAdministrator, ID: "uid 0 (root)"})
	account := accountName(0)
	if _, err := admin.AddAccount(ctx, account); err != nil {
		return recorded{}, err
	}
	_, token, err := admin.AddApplication(ctx, application, applicationName)
	if err != nil {
		return recorded{}, err
	}
	var devices []*Device
	for range devicesPerAccount {
		d, err := newDevice(account)
		if err != nil {
			return recorded{}, err
		}
		invited, _, err := admin.CreateInvitation(ctx, account, 0)
		if err != nil {
			return recorded{}, err
		}
		signed, err := d.enrollment(broker.Deployment(), serverKey, invitation.Hash(invited))
		if err != nil {
			return recorded{}, err
		}
		if _, err := broker.EnrollDevice(ctx, approval.Enrolling{Device: d.ID, Token: invited, Statement: signed, Address: "127.0.0.1"}); err != nil {
			return recorded{}, err
		}
		devices = append(devices, d)
	}
	r := rehearsal{broker: broker, store: store, device: devices[0], token: token, account: account, serverKey: serverKey}
	for range rehearsed - 1 {
		if _, err := r.play(ctx); err != nil {
			return recorded{}, err
		}
	}
	return r.play(ctx)
}

type rehearsal struct {
	broker                    *approval.Broker
	store                     *recorder
	device                    *Device
	token, account, serverKey string
	known                     string // token of the requester
}

func (r *rehearsal) play(ctx context.Context) (recorded, error) {
	r.store.rows = nil
	begun, err := r.broker.BeginSignIn(ctx, r.token, approval.Request{Account: r.account, Requester: requester, Token: r.known})
	if err != nil {
		return recorded{}, err
	}
	begin := r.store.take()
	screen, err := r.broker.Screen(ctx, r.device.ID)
	if err != nil {
		return recorded{}, err
	}
	if len(screen.Prompts) != 1 {
		return recorded{}, errors.New("the device shows no prompt")
	}
	signed, err := r.device.decision(Target{Name: r.broker.Deployment(), Pin: r.serverKey}, screen.Prompts[0].Document)
	if err != nil {
		return recorded{}, err
	}
	code, err := r.broker.Decide(ctx, r.device.ID, signed, "127.0.0.1")
	if err != nil {
		return recorded{}, err
	}
	decide := r.store.take()
	admission, err := r.broker.VerifySignIn(ctx, r.token, begun.ID, code.Digits)
	if err != nil {
		return recorded{}, err
	}
	r.known = admission.RequesterToken
	all := recorded{begin, decide, r.store.take()}
	all.mark(r.account, begun.ID)
	return all, nil
}

// mark puts marks into the keys, and numbers the rows.
func (r *recorded) mark(account, signIn string) {
	places := map[string]int{}
	records, hashes := map[string]string{}, map[string]string{}
	for _, rows := range [][]Row{r.Begin, r.Decide, r.Verify} {
		for i := range rows {
			row := &rows[i]
			name := row.Bucket + "\x00" + row.Key
			place, again := places[name]
			if !again {
				place = len(places)
				places[name] = place
			}
			row.Place = place
			row.Key = strings.ReplaceAll(strings.ReplaceAll(row.Key, account, markAccount), signIn, markSignIn)
			if n := len(row.Key) - sequenceLen; row.Bucket == "records" || row.Bucket == "records_of" {
				row.Key = row.Key[:n] + numbered(records, markRecord, row.Key[n:])
			} else if row.Bucket == "record_hashes" {
				row.Key = numbered(hashes, markHash, row.Key)
			}
		}
	}
}

// numbered returns the mark, and how many other numbers there were before.
func numbered(seen map[string]string, mark, number string) string {
	if seen[number] == "" {
		seen[number] = mark + string(rune('a'+len(seen)))
	}
	return seen[number]
}

const sequenceLen = 16 // hex digits in a key

// key returns the key of the row in the n-th sign-in, which is one of an
// account: as the product makes it or, where ordered, as one that is behind all
// others of its bucket.
func (r *Row) key(n uint64, account, signIn string, ordered bool) string {
	if ordered {
		length := len(r.Key) + strings.Count(r.Key, markAccount)*(len(account)-1) + strings.Count(r.Key, markSignIn)*(len(signIn)-1)
		if strings.ContainsAny(r.Key, markRecord+markHash) {
			length += sequenceLen - 2
		}
		key := make([]byte, max(length, 9))
		binary.BigEndian.PutUint64(key, n)
		key[8] = byte(r.Place)
		return string(key)
	}
	key := strings.Replace(r.Key, markAccount, account, 1)
	key = strings.Replace(key, markSignIn, signIn, 1)
	if i := strings.IndexAny(key, markRecord+markHash); i >= 0 {
		each := uint64(3) // records of a sign-in
		if key[i] == markHash[0] {
			each *= 2 // a tree has twice as many hashes as leaves
		}
		key = key[:i] + fmt.Sprintf("%016x", n*each+uint64(key[i+1]-'a'))
	}
	return key
}

// signInID returns an id as the product makes them: in order of time, and
// nobody can guess it.
func signInID() string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(time.Now().UnixMilli())<<16)
	rand.Read(id[6:])
	return idAlphabet.EncodeToString(id[:])
}

// idAlphabet keeps the order of the bytes.
var idAlphabet = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// A recorder keeps what is written.
type recorder struct {
	approval.Store
	rows []Row
}

// Update implements [approval.Store].
func (r *recorder) Update(ctx context.Context, fn func(approval.Tx) error) error {
	var tx *recordingTx
	err := r.Store.Update(ctx, func(inner approval.Tx) error {
		tx = &recordingTx{Tx: inner}
		return fn(tx)
	})
	if err == nil {
		r.rows = append(r.rows, tx.rows...)
	}
	return err
}

func (r *recorder) take() []Row {
	rows := r.rows
	r.rows = nil
	return rows
}

type recordingTx struct {
	approval.Tx
	rows []Row
}

// Put implements [approval.Tx].
func (t *recordingTx) Put(bucket, key string, value []byte) error {
	t.rows = append(t.rows, Row{Bucket: bucket, Key: key, Value: append([]byte{}, value...)})
	return t.Tx.Put(bucket, key, value)
}

// Delete implements [approval.Tx].
func (t *recordingTx) Delete(bucket, key string) error {
	t.rows = append(t.rows, Row{Bucket: bucket, Key: key})
	return t.Tx.Delete(bucket, key)
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // the source of randomness never fails
	}
	return key
}

// decision signs Allow for a prompt.
func (d *Device) decision(t Target, document []byte) (string, error) {
	p, err := statement.ParsePrompt(document)
	if err != nil {
		return "", err
	}
	return statement.Sign(d.approval, statement.Decision{
		Account:     p.Account,
		Application: p.Application.ID,
		ApprovalKey: d.approvalID,
		Aud:         t.Name,
		Counter:     d.nextCounter(),
		Decision:    statement.Allow,
		Device:      d.ID,
		Iat:         time.Now().Unix(),
		Nonce:       p.Nonce,
		Prompt:      base64.RawURLEncoding.EncodeToString(document),
		ServerKey:   t.Pin,
		SignIn:      p.SignIn,
	})
}
