package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type actorJSON struct {
	Kind string `json:"kind"`
	ID   string `json:"id,omitempty"`
}

type recordJSON struct {
	Sequence    uint64    `json:"sequence"`
	Time        int64     `json:"time"`
	Event       string    `json:"event"`
	Actor       actorJSON `json:"actor"`
	Account     string    `json:"account,omitempty"`
	Device      string    `json:"device,omitempty"`
	Application string    `json:"application,omitempty"`
	SignIn      string    `json:"sign_in,omitempty"`
	Address     string    `json:"address,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Statement   string    `json:"statement,omitempty"`
}

func recordObjects(records []*pb.AuditRecord) []recordJSON {
	objects := make([]recordJSON, len(records))
	for i, r := range records {
		objects[i] = recordJSON{
			Sequence:    r.GetSequence(),
			Time:        unix(r.GetTime()),
			Event:       r.GetEvent(),
			Actor:       actorJSON{r.GetActor().GetKind(), r.GetActor().GetId()},
			Account:     r.GetAccount(),
			Device:      r.GetDevice(),
			Application: r.GetApplication(),
			SignIn:      r.GetSignIn(),
			Address:     r.GetAddress(),
			Detail:      r.GetDetail(),
			Statement:   r.GetStatement(),
		}
	}
	return objects
}

func listRecords(env *environment, records []*pb.AuditRecord) error {
	t := newTable(env.out, "NO.", "TIME", "EVENT", "BY", "ACCOUNT", "ABOUT")
	for _, r := range records {
		t.row(fmt.Sprint(r.GetSequence()), local(r.GetTime()), safe(r.GetEvent()), by(r.GetActor()), safe(r.GetAccount()), about(r))
	}
	return t.flush()
}

// by says who did something.
func by(a *pb.Actor) string {
	switch {
	case a.GetKind() == "administrator":
		return safe(a.GetId())
	case a.GetKind() == "device":
		return "device " + short(a.GetId())
	case a.GetId() == "":
		return safe(a.GetKind())
	}
	return safe(a.GetKind() + " " + a.GetId())
}

// about says what else a record holds that its other columns do not show.
func about(r *pb.AuditRecord) string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, strings.TrimSpace(name+" "+value))
		}
	}
	actor := r.GetActor()
	if actor.GetKind() != "device" || actor.GetId() != r.GetDevice() {
		add("device", short(r.GetDevice()))
	}
	if actor.GetKind() != "application" || actor.GetId() != r.GetApplication() {
		add("application", safe(r.GetApplication()))
	}
	add("sign-in", safe(r.GetSignIn()))
	if r.GetActor().GetKind() == "application" {
		add("requester at", safe(r.GetAddress())) // as the application says
	} else {
		add("from", safe(r.GetAddress()))
	}
	add("", quoted(r.GetDetail()))
	return strings.Join(parts, ", ")
}

// recordFilter is the part of the record that list and export are about.
type recordFilter struct {
	Account     string `placeholder:"ACCOUNT" help:"Only what is about this account."`
	Device      string `placeholder:"DEVICE" help:"Only what is about this device or was done by it: the beginning of its id, or its fingerprint in words."`
	Application string `name:"application" placeholder:"APP" help:"Only what is about this application."`
	Event       string `placeholder:"EVENT" help:"Only this event, for example sign_in.verified."`
	Since       string `placeholder:"TIME" help:"Only what happened then or later: 2026-11-22, 2026-11-22T18:00:00Z, or 24h or 90d for so long ago."`
	Until       string `placeholder:"TIME" help:"Only what happened earlier; a day is meant to its end."`
}

func (f recordFilter) all() bool { return f == recordFilter{} }

// request returns a request for what the filter wants.
func (f recordFilter) request(now time.Time) (*pb.ListAuditRecordsRequest, error) {
	req := &pb.ListAuditRecordsRequest{Account: f.Account, Device: deviceID(f.Device), Application: f.Application, Event: f.Event}
	for _, bound := range []struct {
		flag, given string
		end         bool
		to          **timestamppb.Timestamp
	}{{"--since", f.Since, false, &req.SinceTime}, {"--until", f.Until, true, &req.UntilTime}} {
		if bound.given == "" {
			continue
		}
		moment, err := parseMoment(bound.given, now, bound.end)
		if err != nil {
			return nil, usageError{fmt.Errorf("%s: %w", bound.flag, err)}
		}
		*bound.to = timestamppb.New(moment)
	}
	return req, nil
}

// parseMoment reads a moment as people give it: a day, in the time zone of
// whoever gives it; a moment as RFC 3339 has it; or how long ago. With end, a day
// is its end.
func parseMoment(s string, now time.Time, end bool) (time.Time, error) {
	if day, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		if end {
			day = day.AddDate(0, 0, 1)
		}
		return day, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: want a day (2026-11-22), a moment (2026-11-22T18:00:00+01:00), or how long ago (24h, 90d)", s)
}

type auditListCmd struct {
	recordFilter
	Number int `short:"n" name:"number" default:"50" placeholder:"N" help:"How many at most; 0 lists all. Default: 50."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (auditListCmd) Help() string {
	return `With --json: {"records": [{"sequence", "time", "event", "actor": {"kind": "device", "application", "administrator", "recovery" (who holds a recovery code) or "server", "id"}, "account", "device", "application", "sign_in", "address", "detail", "statement"}]}; what a record does not have is left out.`
}

// Run lists the record.
func (c *auditListCmd) Run(env *environment) error {
	if c.Number < 0 {
		return usageError{fmt.Errorf("--number is %d, want 0 or more", c.Number)}
	}
	req, err := c.request(time.Now())
	if err != nil {
		return err
	}
	return env.connect(env.ctx, func(ctx context.Context, admin pb.AdminServiceClient) error {
		records, err := all(c.Number, func(size int32, token string) ([]*pb.AuditRecord, string, error) {
			req.PageSize, req.PageToken = size, token
			resp, err := patiently(ctx, func(ctx context.Context) (*pb.ListAuditRecordsResponse, error) {
				return admin.ListAuditRecords(ctx, req)
			})
			return resp.GetRecords(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(map[string]any{"records": recordObjects(records)})
		}
		if len(records) == 0 {
			fmt.Fprintln(env.out, "Nothing on record fits that.")
			return nil
		}
		return listRecords(env, records)
	})
}
