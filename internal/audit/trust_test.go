package audit

import (
	"slices"
	"testing"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// TestA14AServerCannotPutWordsIntoADevicesMouth is a server that lies, with all
// hashes right and a checkpoint of its own: what devices did not sign, or could not
// sign at that moment, is named.
func TestA14AServerCannotPutWordsIntoADevicesMouth(t *testing.T) {
	// Records 1 to 5: the start, two accounts, and a device of each.
	type stage struct {
		*book
		mac, other *holder
	}
	for _, test := range []struct {
		name   string
		lie    func(s stage)
		record uint64
		words  string
	}{
		{"a sign-in that nobody allowed", func(s stage) {
			s.add(s.mac.verified(s.begin("ada", "1"), afterAllow))
		}, 7, "had not allowed the sign-in"},
		{"an allow without a statement", func(s stage) {
			r := s.mac.allowed(s.begin("ada", "1"))
			r.Statement = ""
			s.add(r)
		}, 7, "statement is missing"},
		{"an allow signed with another key", func(s stage) {
			forger := &holder{b: s.book, id: s.mac.id, account: "ada", approval: newKey(t)}
			s.add(forger.allowed(s.begin("ada", "1")))
		}, 7, "not signed so by the device"},
		{"a denial told as an allow", func(s stage) {
			r := s.mac.denied(s.begin("ada", "1"), "")
			r.Event = EventSignInAllowed
			s.add(r)
		}, 7, "signed the other decision: deny"},
		{"an allow told as a denial", func(s stage) {
			r := s.mac.allowed(s.begin("ada", "1"))
			r.Event = EventSignInDenied
			s.add(r)
		}, 7, "signed the other decision: allow"},
		{"another reason", func(s stage) {
			r := s.mac.denied(s.begin("ada", "1"), statement.NotMe)
			r.Detail = statement.Mistake
			s.add(r)
		}, 7, "reason"},
		{"an allow moved to another sign-in", func(s stage) {
			first, second := s.begin("ada", "1"), s.begin("ada", "2")
			r := s.mac.allowed(first)
			r.SignIn = second.begun.SignIn
			s.add(r)
		}, 8, "about another sign-in"},
		{"an allow moved to another application", func(s stage) {
			q := s.begin("ada", "1")
			r := s.mac.allowed(q)
			r.Application = "mail"
			s.add(r)
		}, 7, "another account's or application's"},
		{"another account's device", func(s stage) {
			r := s.other.allowed(s.begin("ada", "1"))
			s.add(r)
		}, 7, "is another account's"},
		{"a device that nobody enrolled", func(s stage) {
			s.add(s.newHolder("ada").allowed(s.begin("ada", "1")))
		}, 7, "not enrolled then"},
		{"a device before it was enrolled", func(s stage) {
			h := s.newHolder("ada")
			s.add(h.allowed(s.begin("ada", "1")))
			s.add(h.enrolled(root))
		}, 7, "not enrolled then"},
		{"a revoked device", func(s stage) {
			s.add(Record{Event: EventDeviceRevoked, Actor: root, Account: "ada", Device: s.mac.id})
			s.add(s.mac.allowed(s.begin("ada", "1")))
		}, 8, "not trusted then: record 6 revoked it"},
		{"a suspended account", func(s stage) {
			q := s.begin("ada", "1")
			s.add(ofAccount(EventAccountSuspended, "ada"))
			s.add(s.mac.allowed(q))
		}, 8, "suspended then"},
		{"an account that nobody added", func(s stage) {
			s.add(s.newHolder("eve").enrolled(root))
		}, 6, "account was added"},
		{"an allow twice: a replay", func(s stage) {
			r := s.mac.allowed(s.begin("ada", "1"))
			s.add(r)
			s.add(r)
		}, 8, "replay"},
		{"a counter that went back", func(s stage) {
			first, second := s.begin("ada", "1"), s.begin("ada", "2")
			earlier := s.mac.allowed(first)
			s.add(s.mac.allowed(second))
			s.add(earlier)
		}, 9, "replay"},
		{"an allow after the denial is used", func(s stage) {
			q := s.begin("ada", "1")
			s.add(s.mac.allowed(q))
			s.add(s.mac.denied(q, ""))
			s.add(s.mac.verified(q, afterAllow))
		}, 9, "had not allowed"},
		{"another device's code", func(s stage) {
			q := s.begin("ada", "1")
			s.add(s.mac.allowed(q))
			s.add(s.enroll("ada").verified(q, afterAllow))
		}, 9, "had not allowed"},
		{"a code that nobody asked for", func(s stage) {
			s.add(s.mac.verified(s.begin("ada", "1"), askedFor))
		}, 7, "had not asked for one"},
		{"a code asked for once, used twice", func(s stage) {
			first, second := s.begin("ada", "1"), s.begin("ada", "2")
			s.add(s.mac.codeRequested())
			s.add(s.mac.verified(first, askedFor))
			s.add(s.mac.verified(second, askedFor))
		}, 10, "had not asked for one"},
		{"verified twice", func(s stage) {
			q := s.begin("ada", "1")
			s.add(s.mac.allowed(q))
			s.add(s.mac.verified(q, afterAllow))
			s.add(s.mac.verified(q, afterAllow))
		}, 9, "was over: it was verified"},
		{"verified after it was cancelled", func(s stage) {
			q := s.begin("ada", "1")
			s.add(s.mac.allowed(q))
			s.add(q.about(EventSignInCancelled, Actor{Kind: ActorServer}, ""))
			s.add(s.mac.verified(q, afterAllow))
		}, 9, "was over: it was cancelled"},
		{"another requester's address", func(s stage) {
			q := s.begin("ada", "1")
			q.begun.Address = "192.0.2.99"
			s.add(s.mac.allowed(q))
		}, 7, "shown another address"},
		{"another time", func(s stage) {
			q := s.begin("ada", "1")
			q.at = q.at.Add(-time.Minute)
			s.add(s.mac.allowed(q))
		}, 7, "shown another time"},
		{"a sign-in from nowhere", func(s stage) {
			q := s.begin("ada", "1")
			s.records = s.records[:len(s.records)-1]
			s.add(s.mac.allowed(q))
		}, 6, "had begun"},
		{"a sign-in that began twice", func(s stage) {
			s.begin("ada", "1")
			s.begin("ada", "1")
		}, 7, "had begun before"},
		{"a device that was let in by nobody", func(s stage) {
			s.add(s.newHolder("ada").enrolled(Actor{ID: s.mac.id, Kind: ActorDevice}))
		}, 6, "let the new device in"},
		{"a device let in by a denial", func(s stage) {
			q := s.ask("ada", "1")
			s.add(s.mac.denied(q, ""))
			s.add(q.new.enrolled(Actor{ID: s.mac.id, Kind: ActorDevice}))
		}, 8, "let the new device in"},
		{"another device than the one that was allowed", func(s stage) {
			q := s.ask("ada", "1")
			s.add(s.mac.allowed(q))
			s.add(s.newHolder("ada").enrolled(Actor{ID: s.mac.id, Kind: ActorDevice}))
		}, 8, "let the new device in"},
		{"a prompt that showed another new device", func(s stage) {
			q := s.ask("ada", "1")
			q.new = s.newHolder("ada")
			s.add(s.mac.allowed(q))
		}, 7, "another new device"},
		{"a sign-in's prompt for a new device", func(s stage) {
			q := s.ask("ada", "1")
			r := s.mac.allowed(request{begun: q.begun, at: q.at})
			s.add(r)
		}, 7, "about another sign-in"},
		{"an enrolment by another key", func(s stage) {
			h := s.newHolder("ada")
			r := h.enrolled(root)
			r.Device = s.newHolder("ada").id
			s.add(r)
		}, 6, "not signed so by the new device"},
		{"an enrolment under another name", func(s stage) {
			r := s.newHolder("ada").enrolled(root)
			r.Detail = "Somebody else's"
			s.add(r)
		}, 6, "name in it"},
		{"an enrolment in another account", func(s stage) {
			r := s.newHolder("bob").enrolled(root)
			r.Account = "ada"
			s.add(r)
		}, 6, "about another account"},
		{"a key enrolled twice", func(s stage) {
			s.add(s.mac.enrolled(root))
		}, 6, "belonged to a device before"},
		{"a request for trust by another key", func(s stage) {
			s.ask("ada", "1")
			s.records[5].Device = s.newHolder("ada").id
		}, 6, "not signed so by the device that asks"},
		{"a revocation that nobody signed", func(s stage) {
			r := s.mac.revoked(s.enroll("ada"))
			r.Statement = ""
			s.add(r)
		}, 7, "statement is missing"},
		{"a revocation of another device", func(s stage) {
			first, second := s.enroll("ada"), s.enroll("ada")
			r := s.mac.revoked(first)
			r.Device = second.id
			s.add(r)
		}, 8, "revokes another device"},
		{"a revocation by another account's device", func(s stage) {
			r := s.other.revoked(s.mac)
			r.Account = "ada"
			s.add(r)
		}, 6, "is another account's"},
		{"a device revoked twice", func(s stage) {
			for range 2 {
				s.add(Record{Event: EventDeviceRevoked, Actor: root, Account: "ada", Device: s.mac.id})
			}
		}, 7, "had revoked the device before"},
		{"a code request that is a denial", func(s stage) {
			r := s.mac.codeRequested()
			r.Statement = s.mac.denied(s.begin("ada", "1"), "").Statement
			s.add(r)
		}, 7, "not signed so by the device"},
		{"a copied key that is none", func(s stage) {
			forger := &holder{b: s.book, id: s.mac.id, account: "ada", approval: newKey(t)}
			r := forger.codeRequested()
			r.Event = EventCounterReused
			s.add(r)
		}, 6, "not signed by the device"},
		{"a recovered device that handed in no code", func(s stage) {
			h := s.newHolder("ada")
			s.add(h.recovered(h.recovering()))
		}, 6, "handed in a recovery code"},
		{"a waiting device that allows", func(s stage) {
			h := s.newHolder("ada")
			s.add(h.recovering())
			s.add(h.allowed(s.begin("ada", "1")))
		}, 8, "it was waiting"},
		{"a waiting device that was revoked, and enrolled all the same", func(s stage) {
			h := s.newHolder("ada")
			used := h.recovering()
			s.add(used)
			s.add(Record{Event: EventDeviceRevoked, Actor: root, Account: "ada", Device: h.id})
			s.add(h.recovered(used))
		}, 8, "had revoked the device before"},
		{"a device recovered twice", func(s stage) {
			h := s.newHolder("ada")
			used := h.recovering()
			s.add(used)
			s.add(h.recovered(used))
			s.add(h.recovered(used))
		}, 8, "enrolled before"},
		{"a recovery told as an invitation", func(s stage) {
			h := s.newHolder("ada")
			used := h.recovering()
			r := h.recovered(used)
			r.Actor = root
			s.add(r)
		}, 6, "another way in"},
		{"a recovery by another announcement", func(s stage) {
			h := s.newHolder("ada")
			s.add(h.recovering())
			s.add(h.recovered(h.recovering()))
		}, 7, "not the one with which"},
		{"recovery codes renewed by nobody", func(s stage) {
			r := s.mac.renewed()
			r.Statement = ""
			s.add(r)
		}, 6, "statement is missing"},
		{"an account unlocked by a device that did not", func(s stage) {
			r := s.mac.unlocked()
			r.Statement = s.mac.renewed().Statement
			s.add(r)
		}, 6, "not signed so by the device"},
		{"another device readmitted than the one that was signed for", func(s stage) {
			first, second := s.enroll("ada"), s.enroll("ada")
			r := s.mac.readmitted(first)
			r.Device = second.id
			s.add(r)
		}, 8, "readmits another device"},
		{"a revoked device readmitted", func(s stage) {
			phone := s.enroll("ada")
			s.add(s.mac.revoked(phone))
			s.add(s.mac.readmitted(phone))
		}, 8, "had revoked the device before"},
		{"recovery codes renewed by a replay", func(s stage) {
			r := s.mac.renewed()
			s.add(r)
			s.add(r)
		}, 7, "replay"},
		{"a sign-in that rings after it was allowed", func(s stage) {
			q := s.begin("ada", "1")
			s.add(s.mac.allowed(q))
			s.add(q.rungAgain())
		}, 8, "had been allowed"},
		{"a sign-in that rings after it was verified", func(s stage) {
			q := s.begin("ada", "1")
			s.add(s.mac.allowed(q))
			s.add(s.mac.verified(q, afterAllow))
			s.add(q.rungAgain())
		}, 9, "it was verified"},
		{"a statement where none belongs", func(s stage) {
			r := ofAccount("device.renamed", "ada")
			r.Statement = "a.b.c"
			s.add(r)
		}, 6, "cannot check"},
		{"another deployment's statement", func(s stage) {
			h := s.newHolder("ada")
			e := h.enrollment()
			e.Aud = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
			s.add(Record{Event: EventDeviceEnrolled, Actor: root, Account: "ada", Device: h.id, Detail: "Mac mini", Statement: sign(h, e)})
		}, 6, "another deployment"},
	} {
		b := newBook(t)
		b.add(ofAccount(EventAccountAdded, "ada"))
		b.add(ofAccount(EventAccountAdded, "bob"))
		s := stage{book: b, mac: b.enroll("ada"), other: b.enroll("bob")}
		test.lie(s)
		wantFinding(t, test.name, verify(t, b.export()), test.record, test.words)
	}
}

// TestADenialAndARevocationCountThoughTheirCounterDoesNotRise, as they do for
// the server: who copied the key must not keep its owner from them.
func TestADenialAndARevocationCountThoughTheirCounterDoesNotRise(t *testing.T) {
	b := newBook(t)
	b.add(ofAccount(EventAccountAdded, "ada"))
	mac, phone := b.enroll("ada"), b.enroll("ada")
	first, second := b.begin("ada", "1"), b.begin("ada", "2")
	denied, revoked := mac.denied(first, ""), mac.revoked(phone)
	mac.counter = 50
	b.add(mac.allowed(second))
	reused := denied
	reused.Event = EventCounterReused
	b.add(reused)
	b.add(denied)
	b.add(ofAccount(EventAccountSuspended, "ada"))
	b.add(revoked)
	if got := verify(t, b.export()); len(got.Findings) > 0 {
		t.Errorf("findings: %q", got.Findings)
	}
}

// TestEveryRuleIsForAnEvent: the table has each event that package audit names.
func TestEveryRuleIsForAnEvent(t *testing.T) {
	var told []Event
	for _, r := range story(t).records {
		told = append(told, r.Event)
	}
	for event := range rules {
		if !slices.Contains(told, event) {
			t.Errorf("the story that all tests tell has no %s", event)
		}
	}
}
