package approval

import (
	"context"
	"fmt"
	"time"
)

// A Policy is what an application's sign-ins may do. The zero value of each
// field means the default, and no value is laxer than the whole flow's ten
// minutes (NIST SP 800-63B-4, 3.1.3.2).
type Policy struct {
	PromptLifetime time.Duration // default 5 min; 30 s to 8 min
	CodeLifetime   time.Duration // of the code after Allow: default 2 min; 30 s to 5 min
	Tries          int           // codes compared for one sign-in: default and at most 5

	// DenialFinal means that a denied sign-in stays denied: no code that is
	// asked for afterwards verifies it.
	DenialFinal bool

	// RefuseRequested means that only a code after Allow counts, and none that
	// was asked for without a prompt.
	RefuseRequested bool

	// RefuseOffline means that no code counts that a device made by itself.
	RefuseOffline bool
}

const (
	defaultPromptLifetime = 5 * time.Minute
	defaultCodeLifetime   = 2 * time.Minute
	maxTries              = 5
	maxFlow               = 10 * time.Minute // prompt and code together
)

// WithDefaults returns the policy with its zero values filled in.
func (p Policy) WithDefaults() Policy {
	if p.PromptLifetime == 0 {
		p.PromptLifetime = defaultPromptLifetime
	}
	if p.CodeLifetime == 0 {
		p.CodeLifetime = defaultCodeLifetime
	}
	if p.Tries == 0 {
		p.Tries = maxTries
	}
	return p
}

// check refuses a policy that is beyond a limit.
func (p Policy) check() error {
	p = p.WithDefaults()
	switch {
	case p.PromptLifetime < 30*time.Second || p.PromptLifetime > 8*time.Minute:
		return invalidField("policy.prompt_lifetime", "want 30 s to 8 min")
	case p.CodeLifetime < 30*time.Second || p.CodeLifetime > 5*time.Minute:
		return invalidField("policy.code_lifetime", "want 30 s to 5 min")
	case p.PromptLifetime+p.CodeLifetime > maxFlow:
		return invalidField("policy.code_lifetime", "prompt and code together may last 10 min at most (NIST SP 800-63B-4)")
	case p.Tries < 1 || p.Tries > maxTries:
		return invalidField("policy.tries", "want 1 to %d", maxTries)
	}
	return nil
}

// SetApplicationPolicy changes an application's policy by change, which gets
// the policy in force with its defaults filled in. Sign-ins that are open keep
// their lifetimes and tries; what they may be verified by changes at once.
func (a Administrator) SetApplicationPolicy(ctx context.Context, id string, change func(*Policy)) (Application, error) {
	now := a.broker.now()
	var changed Application
	err := a.broker.update(ctx, func(tx *transaction) error {
		app, err := existingApplication(tx, id)
		if err != nil {
			return err
		}
		policy := app.Policy.WithDefaults()
		change(&policy)
		if err := policy.check(); err != nil {
			return err
		}
		if policy == app.Policy.WithDefaults() {
			changed = *app
			return nil
		}
		app.Policy = policy
		changed = *app
		if err := saveApplication(tx, app); err != nil {
			return err
		}
		return a.record(tx, now, Record{Event: EventApplicationPolicy, Application: id, Detail: policy.String()})
	})
	if err != nil {
		return Application{}, err
	}
	return changed, nil
}

// String says all of the policy in words, for the record.
func (p Policy) String() string {
	p = p.WithDefaults()
	words := fmt.Sprintf("prompt %v, code %v, tries %d", p.PromptLifetime, p.CodeLifetime, p.Tries)
	if p.DenialFinal {
		words += ", denial final"
	}
	if p.RefuseRequested {
		words += ", no requested codes"
	}
	if p.RefuseOffline {
		words += ", no offline codes"
	}
	return words
}
