package main

import (
	"context"
	"fmt"
	"strings"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const lanesHelp = `"lanes": [{"lane": "known", "unknown" or "enrolment", "rung", "failures_day", "failures_month", "closed", "barred_until", "silent_until"}], "silenced_sources": [{"source", "until"}]`

type lanesJSON struct {
	Lanes   []laneJSON   `json:"lanes"`
	Sources []sourceJSON `json:"silenced_sources"`
}

type laneJSON struct {
	Lane          string `json:"lane"`
	Rung          int32  `json:"rung"`
	FailuresDay   int32  `json:"failures_day"`
	FailuresMonth int32  `json:"failures_month"`
	Closed        int64  `json:"closed,omitempty"`
	BarredUntil   int64  `json:"barred_until,omitempty"`
	SilentUntil   int64  `json:"silent_until,omitempty"`
}

type sourceJSON struct {
	Source string `json:"source"`
	Until  int64  `json:"until"`
}

func lanesObject(a *pb.Account) lanesJSON {
	object := lanesJSON{Lanes: []laneJSON{}, Sources: []sourceJSON{}}
	for _, l := range a.GetLanes() {
		object.Lanes = append(object.Lanes, laneJSON{
			Lane: l.GetLane(), Rung: l.GetRung(), FailuresDay: l.GetFailuresDay(), FailuresMonth: l.GetFailuresMonth(),
			Closed: unix(l.GetCloseTime()), BarredUntil: unix(l.GetBarredUntilTime()), SilentUntil: unix(l.GetSilentUntilTime()),
		})
	}
	for _, s := range a.GetSilencedSources() {
		object.Sources = append(object.Sources, sourceJSON{s.GetSource(), unix(s.GetUntilTime())})
	}
	return object
}

// showLanes shows who rings the account, how often codes were wrong, and what
// is closed or silent.
func showLanes(env *environment, a *pb.Account) error {
	fmt.Fprintln(env.out)
	t := newTable(env.out, "LANE", "RUNG IN AN HOUR", "WRONG CODES IN A DAY", "IN 30 DAYS", "NOW")
	for _, l := range a.GetLanes() {
		t.row(safe(l.GetLane()), fmt.Sprint(l.GetRung()), fmt.Sprint(l.GetFailuresDay()), fmt.Sprint(l.GetFailuresMonth()), laneState(l))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, s := range a.GetSilencedSources() {
		fmt.Fprintf(env.out, "Silent until %s, after \"this wasn't me\": %s\n", local(s.GetUntilTime()), safe(s.GetSource()))
	}
	return nil
}

// laneState says what is closed or silent in a lane.
func laneState(l *pb.LaneStatus) string {
	var words []string
	switch {
	case l.GetCloseTime() != nil:
		words = append(words, "no code is compared until it is unlocked")
	case l.GetBarredUntilTime() != nil:
		words = append(words, "no code is compared until "+local(l.GetBarredUntilTime()))
	}
	if l.GetSilentUntilTime() != nil {
		words = append(words, "silent until "+local(l.GetSilentUntilTime()))
	}
	if len(words) == 0 {
		return "open"
	}
	return strings.Join(words, "; ")
}

type accountUnlockCmd struct {
	Account string `arg:"" help:"The account's name."`
	Reason  string `placeholder:"TEXT" help:"Why, for the record; at most 64 characters."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (accountUnlockCmd) Help() string {
	return "After too many wrong codes, none is compared for a while, or until this; after \"this wasn't me\", strangers do not ring for a while. This forgets both, for all lanes. Its owner can do the same with  countersign-agent unlock. If somebody guesses, have the password changed first." + accountWithLanes + "}"
}

// Run unlocks an account.
func (c *accountUnlockCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.UnlockAccount(ctx, &pb.UnlockAccountRequest{Name: c.Account, Reason: c.Reason})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(struct {
				accountJSON
				lanesJSON
			}{accountObject(resp.GetAccount()), lanesObject(resp.GetAccount())})
		}
		fmt.Fprintf(env.out, "Unlocked the account %s: its wrong codes, gaps and silences are forgotten.\n", safe(c.Account))
		return nil
	})
}
