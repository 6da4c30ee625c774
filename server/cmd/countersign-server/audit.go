package main

import (
	"context"
	"fmt"
	"strings"

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

type auditListCmd struct {
	Account string `placeholder:"ACCOUNT" help:"Only what is about this account."`
	Number  int    `short:"n" name:"number" default:"50" placeholder:"N" help:"How many at most; 0 lists all. Default: 50."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (auditListCmd) Help() string {
	return `With --json: {"records": [{"sequence", "time", "event", "actor": {"kind": "device", "application", "administrator" or "server", "id"}, "account", "device", "application", "sign_in", "address", "detail", "statement"}]}; what a record does not have is left out.`
}

// Run lists the record.
func (c *auditListCmd) Run(env *environment) error {
	if c.Number < 0 {
		return usageError{fmt.Errorf("--number is %d, want 0 or more", c.Number)}
	}
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		records, err := all(c.Number, func(size int32, token string) ([]*pb.AuditRecord, string, error) {
			resp, err := admin.ListAuditRecords(ctx, &pb.ListAuditRecordsRequest{Account: c.Account, PageSize: size, PageToken: token})
			return resp.GetRecords(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(map[string]any{"records": recordObjects(records)})
		}
		if len(records) == 0 {
			fmt.Fprintln(env.out, "There is nothing on record.")
			return nil
		}
		return listRecords(env, records)
	})
}
