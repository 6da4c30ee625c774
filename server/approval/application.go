package approval

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"strings"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
)

// newToken returns what an application authenticates with: 130 random bits.
func newToken() string { return strings.ToLower(rand.Text()) }

func hashToken(token string) string {
	sum := sha256.Sum256([]byte("countersign application token\x00" + token))
	return pin.Base32.EncodeToString(sum[:])
}

// applicationByToken returns the application that holds the token. The look-up
// is by the token's hash, so its time tells nothing about tokens that exist.
func applicationByToken(tx *transaction, token string) (*Application, error) {
	hash := hashToken(token)
	id, err := tx.Get(bucketTokens, hash)
	if err != nil {
		return nil, err
	}
	if id != nil {
		app, err := load[Application](tx, bucketApplications, string(id))
		if err != nil {
			return nil, err
		}
		if app != nil && app.TokenHash == hash {
			return app, nil
		}
	}
	return nil, refuse(ReasonUnauthenticated, "The token is not one that this server knows. Register the application or use its newest token.")
}

// ApplicationOf returns the id of the application that holds the token, or "".
// It grants nothing; the listener asks it to tell strangers from applications.
func (b *Broker) ApplicationOf(ctx context.Context, token string) string {
	id := ""
	err := b.view(ctx, func(tx *transaction) error {
		app, err := applicationByToken(tx, token)
		if err == nil {
			id = app.ID
		}
		return err
	})
	if err != nil {
		return ""
	}
	return id
}

// AddApplication registers an application and returns its token, which is not
// stored and cannot be had again.
func (a Administrator) AddApplication(ctx context.Context, id, name string) (Application, string, error) {
	if !statement.ValidApplication(id) {
		return Application{}, "", invalidField("id", "want 1 to 32 characters of a-z, 0-9 and -, beginning with a letter")
	}
	if name == "" {
		return Application{}, "", invalidField("name", "want the name that prompts show")
	}
	if err := text.Check(name); err != nil {
		return Application{}, "", invalidField("name", "%v", err)
	}
	now := a.broker.now()
	token := newToken()
	app := Application{ID: id, Name: name, TokenHash: hashToken(token), Created: now, TokenMade: now}
	err := a.broker.update(ctx, func(tx *transaction) error {
		old, err := load[Application](tx, bucketApplications, id)
		if err != nil {
			return err
		}
		if old != nil {
			return refuse(ReasonApplicationExists, "There is an application %s already. Choose another id, or remove it first.", id)
		}
		if err := a.broker.room(); err != nil {
			return err
		}
		if err := saveApplication(tx, &app); err != nil {
			return err
		}
		return a.record(tx, now, Record{Event: EventApplicationAdded, Application: id, Detail: name})
	})
	if err != nil {
		return Application{}, "", err
	}
	return app, token, nil
}

// RotateApplicationToken replaces an application's token by the one it
// returns. The old one is refused from then on.
func (a Administrator) RotateApplicationToken(ctx context.Context, id string) (Application, string, error) {
	now := a.broker.now()
	token := newToken()
	var rotated Application
	err := a.broker.update(ctx, func(tx *transaction) error {
		app, err := existingApplication(tx, id)
		if err != nil {
			return err
		}
		if err := tx.Delete(bucketTokens, app.TokenHash); err != nil {
			return err
		}
		app.TokenHash, app.TokenMade = hashToken(token), now
		rotated = *app
		if err := saveApplication(tx, app); err != nil {
			return err
		}
		return a.record(tx, now, Record{Event: EventApplicationRotated, Application: id})
	})
	if err != nil {
		return Application{}, "", err
	}
	return rotated, token, nil
}

// RemoveApplication forgets an application and cancels its open sign-ins.
func (a Administrator) RemoveApplication(ctx context.Context, id string) error {
	now := a.broker.now()
	var ring rings
	err := a.broker.update(ctx, func(tx *transaction) error {
		ring = rings{}
		app, err := existingApplication(tx, id)
		if err != nil {
			return err
		}
		accounts, err := askedBy(tx, id)
		if err != nil {
			return err
		}
		for account := range accounts {
			devices := a.broker.trustedIDs(tx, account, now)
			ring.devices = append(ring.devices, devices...)
			if err := cancelOpen(tx, now, account, CancelApplicationRemoved, &ring, func(s *SignIn) bool {
				return s.Application == id
			}); err != nil {
				return err
			}
		}
		if err := tx.Delete(bucketTokens, app.TokenHash); err != nil {
			return err
		}
		if err := tx.Delete(bucketApplications, id); err != nil {
			return err
		}
		return a.record(tx, now, Record{Event: EventApplicationRemoved, Application: id, Detail: app.Name})
	})
	if err != nil {
		return err
	}
	a.broker.ring(ring.devices, ring.signIns...)
	return nil
}

// askedBy returns the accounts of which the application has sign-ins open.
func askedBy(tx *transaction, application string) (map[string]bool, error) {
	accounts := map[string]bool{}
	for id, account := range tx.Ascend(bucketOpen, "") {
		s, err := look[SignIn](tx, bucketSignIns, id)
		if err != nil && !damaged(err) {
			return nil, err
		}
		if s != nil && s.Application == application {
			accounts[string(account)] = true
		}
	}
	return accounts, nil
}

// ListApplications returns a page of applications, by id.
func (a Administrator) ListApplications(ctx context.Context, p Page) ([]Application, string, error) {
	return list[Application](ctx, a.broker.store, bucketApplications, p)
}

func existingApplication(tx *transaction, id string) (*Application, error) {
	if !statement.ValidApplication(id) {
		return nil, invalidField("id", "want 1 to 32 characters of a-z, 0-9 and -, beginning with a letter")
	}
	app, err := load[Application](tx, bucketApplications, id)
	if err != nil {
		return nil, err
	}
	if app == nil {
		return nil, refuse(ReasonApplicationUnknown, "There is no application %s. Look for its id in the list of applications, or add it.", id)
	}
	return app, nil
}

func saveApplication(tx *transaction, app *Application) error {
	if err := tx.Put(bucketTokens, app.TokenHash, []byte(app.ID)); err != nil {
		return err
	}
	return save(tx, bucketApplications, app.ID, app)
}

// keys returns the keys that begin with prefix, for a loop that writes.
func keys(tx Tx, bucket, prefix string) []string {
	var all []string
	for key := range tx.Ascend(bucket, prefix) {
		all = append(all, key)
	}
	return all
}
