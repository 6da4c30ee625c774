package approval

import (
	"crypto/sha256"
	"time"

	"github.com/countersignd/countersign/internal/pin"
)

// A knownRequester is a requester that finished a sign-in of an account at an
// application. It shows so by a token, which is derived from the ID by a key
// that lies outside the store, and under whose hash this is kept.
type knownRequester struct {
	ID       string
	Made     time.Time
	Extended time.Time // when it last finished a sign-in
}

const (
	knownFor             = 90 * 24 * time.Hour
	maxRequestersOf      = 64 // of an account; the oldest go
	requesterTokenLength = 26 // 130 bits in base32
)

func hashRequester(token string) string {
	sum := sha256.Sum256([]byte("countersign requester token\x00" + token))
	return pin.Base32.EncodeToString(sum[:])
}

// laneOf tells a known requester by its token, and returns the token's hash
// with it. A token that is unknown, expired, or another account's or
// application's makes its holder a stranger like any other.
func (b *Broker) laneOf(tx *transaction, app *Application, account, token string, now time.Time) (lane Lane, known string, err error) {
	if token == "" {
		return LaneUnknown, "", nil
	}
	hash := hashRequester(token)
	k, err := load[knownRequester](tx, bucketRequesters, account+"/"+app.ID+"/"+hash)
	if err != nil {
		return "", "", err
	}
	if k == nil || !b.knows(k, app, now) {
		return LaneUnknown, "", nil
	}
	return LaneKnown, hash, nil
}

// knows reports whether a requester is known still. What a backup brought back
// may have been forgotten since.
func (b *Broker) knows(k *knownRequester, app *Application, now time.Time) bool {
	return now.Sub(k.Extended) < knownFor && !k.Made.Before(app.Created) && !k.Extended.Before(b.restored)
}

// know makes the requester of a verified sign-in known from now on, or longer,
// and returns its token. id is for a new one.
func (b *Broker) know(tx *transaction, app *Application, s *SignIn, id string, now time.Time) (token string, expires time.Time, err error) {
	expires = now.Add(knownFor)
	prefix := s.Account + "/" + app.ID + "/"
	if s.Known != "" {
		k, err := load[knownRequester](tx, bucketRequesters, prefix+s.Known)
		if err != nil {
			return "", time.Time{}, err
		}
		if k != nil && b.knows(k, app, now) {
			k.Extended = now
			return b.secrets.requesterToken(s.Account, app.ID, k.ID), expires, save(tx, bucketRequesters, prefix+s.Known, k)
		}
	}
	if err := forgetRequesters(tx, s.Account, now); err != nil {
		return "", time.Time{}, err
	}
	token = b.secrets.requesterToken(s.Account, app.ID, id)
	return token, expires, save(tx, bucketRequesters, prefix+hashRequester(token), &knownRequester{ID: id, Made: now, Extended: now})
}

// forgetRequesters makes room for one more known requester of an account.
func forgetRequesters(tx *transaction, account string, now time.Time) error {
	left, oldest := 0, ""
	var since time.Time
	for _, key := range keys(tx, bucketRequesters, account+"/") {
		k, err := load[knownRequester](tx, bucketRequesters, key)
		if err != nil {
			return err
		}
		if now.Sub(k.Extended) >= knownFor {
			if err := tx.Delete(bucketRequesters, key); err != nil {
				return err
			}
			continue
		}
		if left++; oldest == "" || k.Extended.Before(since) {
			oldest, since = key, k.Extended
		}
	}
	if left < maxRequestersOf {
		return nil
	}
	return tx.Delete(bucketRequesters, oldest)
}
