package main

import (
	"context"
	"fmt"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const signInHelp = `{"id", "account", "application", "state": "pending", "approved", "verified", "denied", "expired" or "cancelled", "requester": {"address", "place", "device", "program"}, "message", "begun", "ends", "tries_left", "decided_by", "deny_reason", "cancel_cause", "lane", "silent", "rung"}; what is not known is left out.`

type requesterJSON struct {
	Address string `json:"address"`
	Place   string `json:"place"`
	Device  string `json:"device"`
	Program string `json:"program"`
}

type signInJSON struct {
	ID          string        `json:"id"`
	Account     string        `json:"account"`
	Application string        `json:"application"`
	State       string        `json:"state"`
	Requester   requesterJSON `json:"requester"`
	Message     string        `json:"message,omitempty"`
	Begun       int64         `json:"begun"`
	Ends        int64         `json:"ends"`
	Ended       int64         `json:"ended,omitempty"`
	TriesLeft   int32         `json:"tries_left"`
	DecidedBy   string        `json:"decided_by,omitempty"`
	DenyReason  string        `json:"deny_reason,omitempty"`
	CancelCause string        `json:"cancel_cause,omitempty"`
	Lane        string        `json:"lane"`
	Silent      string        `json:"silent,omitempty"`
	Rung        int64         `json:"rung,omitempty"`
}

func signInObject(s *pb.SignIn) signInJSON {
	r := s.GetRequester()
	return signInJSON{
		ID:          s.GetId(),
		Account:     s.GetAccount(),
		Application: s.GetApplication(),
		State:       enumWord(s.GetState(), "SIGN_IN_STATE_"),
		Requester:   requesterJSON{r.GetAddress(), r.GetPlace(), r.GetDevice(), r.GetProgram()},
		Message:     s.GetMessage(),
		Begun:       unix(s.GetBeginTime()),
		Ends:        unix(s.GetExpireTime()),
		Ended:       unix(s.GetEndTime()),
		TriesLeft:   s.GetTriesLeft(),
		DecidedBy:   s.GetDecidedBy(),
		DenyReason:  s.GetDenyReason(),
		CancelCause: s.GetCancelCause(),
		Lane:        s.GetLane(),
		Silent:      s.GetSilent(),
		Rung:        unix(s.GetRingTime()),
	}
}

type signInListCmd struct {
	Account string `placeholder:"ACCOUNT" help:"Only those of this account."`
	Number  int    `short:"n" name:"number" default:"50" placeholder:"N" help:"How many at most; 0 lists all. Default: 50."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (signInListCmd) Help() string {
	return `With --json: {"sign_ins": [...]}, each ` + signInHelp
}

// Run lists sign-ins.
func (c *signInListCmd) Run(env *environment) error {
	if c.Number < 0 {
		return usageError{fmt.Errorf("--number is %d, want 0 or more", c.Number)}
	}
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		signIns, err := all(c.Number, func(size int32, token string) ([]*pb.SignIn, string, error) {
			resp, err := admin.ListSignIns(ctx, &pb.ListSignInsRequest{Account: c.Account, PageSize: size, PageToken: token})
			return resp.GetSignIns(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		if c.JSON {
			objects := make([]signInJSON, len(signIns))
			for i, s := range signIns {
				objects[i] = signInObject(s)
			}
			return env.printJSON(map[string]any{"sign_ins": objects})
		}
		if len(signIns) == 0 {
			fmt.Fprintln(env.out, "There are no sign-ins.")
			return nil
		}
		t := newTable(env.out, "SIGN-IN", "BEGUN", "ACCOUNT", "APPLICATION", "STATE", "FROM")
		for _, s := range signIns {
			t.row(safe(s.GetId()), local(s.GetBeginTime()), safe(s.GetAccount()), application(s),
				enumWord(s.GetState(), "SIGN_IN_STATE_"), from(s.GetRequester().GetAddress()))
		}
		return t.flush()
	})
}

// application says which application asks, or that it is a device which asks
// to be trusted.
func application(s *pb.SignIn) string {
	if s.GetApplication() == "" {
		return "(a new device)"
	}
	return safe(s.GetApplication())
}

// from says where a request came from.
func from(address string) string {
	if address == "" {
		return "address unknown"
	}
	return safe(address)
}

type signInShowCmd struct {
	ID string `arg:"" help:"The sign-in's id."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (signInShowCmd) Help() string {
	return `The record holds what the deciding device signed, which includes what was on its screen, byte for byte. Only --json prints these statements.

It says, too, how far the sign-in came on each device that it was for, which is kept for 30 days.

With --json: "records", each as audit list prints it, "deliveries": [{"device", "name", "stage": "not_connected", "push_refused", "pushed", "connected", "received", "shown" or "answered", "pushed", "push_failed", "push_failure", "received", "shown", "answered"}], and ` + signInHelp
}

// Run shows a sign-in.
func (c *signInShowCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.GetSignIn(ctx, &pb.GetSignInRequest{Id: c.ID})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(struct {
				signInJSON
				Deliveries []deliveryJSON `json:"deliveries"`
				Records    []recordJSON   `json:"records"`
			}{signInObject(resp.GetSignIn()), deliveryObjects(resp.GetDeliveries()), recordObjects(resp.GetRecords())})
		}
		if err := showSignIn(env, resp.GetSignIn()); err != nil {
			return err
		}
		listDeliveries(env, resp.GetDeliveries())
		fmt.Fprintln(env.out)
		return listRecords(env, resp.GetRecords())
	})
}

func showSignIn(env *environment, signIn *pb.SignIn) error {
	r := signIn.GetRequester()
	s := newSheet(env.out)
	s.line("Sign-in", safe(signIn.GetId()))
	s.line("Account", safe(signIn.GetAccount()))
	s.line("Application", application(signIn))
	if c := signIn.GetCandidate(); c != nil {
		s.line("Device that asks to be trusted", quoted(c.GetName()))
		s.line("Its kind", safe(c.GetKind()))
		s.line("Its id", safe(c.GetDeviceId()))
	}
	s.line("State", enumWord(signIn.GetState(), "SIGN_IN_STATE_"))
	s.line("Begun", local(signIn.GetBeginTime()))
	if signIn.GetEndTime() == nil {
		s.line("Ends", local(signIn.GetExpireTime()))
	} else {
		s.line("Ended", local(signIn.GetEndTime()))
	}
	s.line("From", from(r.GetAddress()))
	s.line("Place", quoted(r.GetPlace()))
	s.line("Requester's device", quoted(r.GetDevice()))
	s.line("Program", quoted(r.GetProgram()))
	s.line("Message", quoted(signIn.GetMessage()))
	s.line("Requester", safe(signIn.GetLane()))
	s.line("Last rang", local(signIn.GetRingTime()))
	s.line("Rang nobody because of", silence(signIn.GetSilent()))
	s.line("Decided by device", short(signIn.GetDecidedBy()))
	s.line("Reason of the denial", safe(signIn.GetDenyReason()))
	s.line("Called off because", safe(signIn.GetCancelCause()))
	switch signIn.GetState() {
	case pb.SignInState_SIGN_IN_STATE_PENDING, pb.SignInState_SIGN_IN_STATE_APPROVED:
		s.line("Tries left", fmt.Sprint(signIn.GetTriesLeft()))
	}
	return s.flush()
}

// silence says why a sign-in rang nobody.
func silence(why string) string {
	switch why {
	case "budget":
		return "budget: the account was rung as often as it bears in an hour"
	case "gap":
		return "gap: too soon after others that were not verified"
	case "source":
		return "source: its address rang too often, or the owner said that it was not her"
	case "lane":
		return "lane: the owner said more than once that such a request was not hers"
	}
	return safe(why)
}
