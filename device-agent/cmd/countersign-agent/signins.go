package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

type signInsCmd struct {
	Limit int  `default:"20" placeholder:"N" help:"How many at most (default: ${default})."`
	JSON  bool `name:"json" help:"Print one JSON object."`
}

// Help is shown with sign-ins --help.
func (signInsCmd) Help() string {
	return `Each says when and where somebody wanted in, what became of it, and how far it came on which device. Who asks is as the application described it. If one was let in that you do not know, somebody has your password and one of your devices: revoke that device, and tell your administrator.

With --json: {"sign_ins": [{"id", "began", "ended", "state" ("pending", "approved", "verified", "denied", "expired" or "cancelled"), "application", "application_name", "device", "program", "place", "address", "message", "candidate" and "candidate_name" (a device that wanted to be trusted), "decided_by", "deny_reason", "cancel_cause", "lane", "silent" (why nothing rang), "deliveries": [` + deliveryHelp + `]}]}, newest first; times are Unix seconds, 0 means never.`
}

// Validate is called by kong.
func (c *signInsCmd) Validate() error {
	if c.Limit < 1 || c.Limit > 1000 {
		return errors.New("--limit must be from 1 to 1000")
	}
	return nil
}

type recentJSON struct {
	ID              string         `json:"id"`
	Began           int64          `json:"began"`
	Ended           int64          `json:"ended"`
	State           string         `json:"state"`
	Application     string         `json:"application"`
	ApplicationName string         `json:"application_name"`
	Device          string         `json:"device"`
	Program         string         `json:"program"`
	Place           string         `json:"place"`
	Address         string         `json:"address"`
	Message         string         `json:"message"`
	Candidate       string         `json:"candidate"`
	CandidateName   string         `json:"candidate_name"`
	DecidedBy       string         `json:"decided_by"`
	DenyReason      string         `json:"deny_reason"`
	CancelCause     string         `json:"cancel_cause"`
	Lane            string         `json:"lane"`
	Silent          string         `json:"silent"`
	Deliveries      []deliveryJSON `json:"deliveries"`
}

type deliveryJSON struct {
	Device      string `json:"device"`
	Name        string `json:"name"`
	Stage       string `json:"stage"`
	Pushed      int64  `json:"pushed"`
	PushFailed  int64  `json:"push_failed"`
	PushFailure string `json:"push_failure"`
	Received    int64  `json:"received"`
	Shown       int64  `json:"shown"`
	Answered    int64  `json:"answered"`
}

const deliveryHelp = `{"device", "name", "stage" ("not_connected", "push_refused", "pushed", "connected", "received", "shown" or "answered"), "pushed", "push_failed", "push_failure", "received", "shown", "answered"}`

func newDeliveryJSON(d *countersignv1.Delivery) deliveryJSON {
	return deliveryJSON{
		Device: d.GetDeviceId(), Name: d.GetDeviceName(), Stage: strings.ToLower(strings.TrimPrefix(d.GetStage().String(), "DELIVERY_STAGE_")),
		Pushed: unix(d.GetPushTime()), PushFailed: unix(d.GetPushFailureTime()), PushFailure: d.GetPushFailure(),
		Received: unix(d.GetReceiveTime()), Shown: unix(d.GetShowTime()), Answered: unix(d.GetAnswerTime()),
	}
}

func newRecentJSON(r *countersignv1.RecentSignIn) recentJSON {
	s, q := r.GetSignIn(), r.GetSignIn().GetRequester()
	j := recentJSON{
		ID: s.GetId(), Began: unix(s.GetBeginTime()), Ended: unix(s.GetEndTime()),
		State:       strings.ToLower(strings.TrimPrefix(s.GetState().String(), "SIGN_IN_STATE_")),
		Application: s.GetApplication(), ApplicationName: r.GetApplicationName(),
		Device: q.GetDevice(), Program: q.GetProgram(), Place: q.GetPlace(), Address: q.GetAddress(), Message: s.GetMessage(),
		Candidate: s.GetCandidate().GetDeviceId(), CandidateName: s.GetCandidate().GetName(),
		DecidedBy: s.GetDecidedBy(), DenyReason: s.GetDenyReason(), CancelCause: s.GetCancelCause(), Lane: s.GetLane(), Silent: s.GetSilent(),
		Deliveries: make([]deliveryJSON, len(r.GetDeliveries())),
	}
	for i, d := range r.GetDeliveries() {
		j.Deliveries[i] = newDeliveryJSON(d)
	}
	return j
}

// Run lists the sign-ins.
func (c *signInsCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	all, err := a.RecentSignIns(ctx, c.Limit)
	if err != nil {
		return explain(err)
	}
	if c.JSON {
		list := make([]recentJSON, len(all))
		for i, r := range all {
			list[i] = newRecentJSON(r)
		}
		return env.printJSON(map[string]any{"sign_ins": list})
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(env.out, "Nobody wanted to sign in to the account lately.")
		return err
	}
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(env.out)
		}
		for _, line := range recentLines(r, a.State().Device, env.width()) {
			fmt.Fprintln(env.out, line)
		}
	}
	return nil
}

// recentLines tells of a sign-in in lines of width columns.
func recentLines(r *countersignv1.RecentSignIn, self string, width int) []string {
	s, q := r.GetSignIn(), r.GetSignIn().GetRequester()
	what := "a sign-in to " + known(r.GetApplicationName(), "an unknown application")
	if c := s.GetCandidate(); c != nil {
		what = "a device that wanted to be trusted: " + text.Isolate(c.GetName()) + " (" + text.Escape(c.GetKind()) + ")"
	}
	lines := hanging("", local(s.GetBeginTime())+"  "+what, width)
	field := func(label, value string) { lines = append(lines, labelled(label, value, width)...) }
	field("outcome", outcome(r, self))
	if s.GetCandidate() == nil {
		field("device", known(q.GetDevice(), "unknown"))
		field("program", known(q.GetProgram(), "unknown"))
		field("place", known(q.GetPlace(), "unknown"))
	}
	field("address", known(q.GetAddress(), "unknown"))
	if s.GetMessage() != "" {
		field("message", text.Isolate(s.GetMessage()))
	}
	if s.GetSilent() != "" {
		field("did not ring", wordsFor(silences, s.GetSilent()))
	}
	for i, d := range r.GetDeliveries() {
		label := "arrived"
		if i > 0 {
			label = ""
		}
		field(label, deviceOf(r, d.GetDeviceId(), self)+": "+stageLine(d))
	}
	return lines
}

// wordsFor returns the words for what the server says, or what it says.
func wordsFor(words map[string]string, said string) string {
	if w := words[said]; w != "" {
		return w
	}
	return text.Isolate(said)
}

// deviceOf names a device in a sign-in, on the device self.
func deviceOf(r *countersignv1.RecentSignIn, id, self string) string {
	if id == self {
		return "this device"
	}
	for _, d := range r.GetDeliveries() {
		if d.GetDeviceId() == id && d.GetDeviceName() != "" {
			return text.Isolate(d.GetDeviceName())
		}
	}
	return "the device " + agent.Fingerprint(id)
}

// outcome says what became of a sign-in.
func outcome(r *countersignv1.RecentSignIn, self string) string {
	s := r.GetSignIn()
	ended, on := " "+clock(s.GetEndTime()), ""
	if s.GetDecidedBy() != "" {
		on = " on " + deviceOf(r, s.GetDecidedBy(), self)
	}
	switch s.GetState() {
	case countersignv1.SignInState_SIGN_IN_STATE_PENDING:
		return "nobody has answered yet"
	case countersignv1.SignInState_SIGN_IN_STATE_APPROVED:
		return "allowed" + on + ", and its code was not used yet"
	case countersignv1.SignInState_SIGN_IN_STATE_VERIFIED:
		if on == "" {
			return "let in" + ended + ", by a code that was got on a device"
		}
		return "let in" + ended + ", allowed" + on
	case countersignv1.SignInState_SIGN_IN_STATE_DENIED:
		return "denied" + on + ended + denials[s.GetDenyReason()]
	case countersignv1.SignInState_SIGN_IN_STATE_EXPIRED:
		if on != "" {
			return "not let in: allowed" + on + ", and its code was not used in time"
		}
		return "not let in: nobody answered in time"
	case countersignv1.SignInState_SIGN_IN_STATE_CANCELLED:
		return "not let in: cancelled" + ended + causes[s.GetCancelCause()]
	}
	return "this version does not know what became of it"
}

// denials are the reasons for a denial, in words.
var denials = map[string]string{
	statement.Mistake: ", by mistake",
	statement.NotMe:   ", because it was not you",
}
