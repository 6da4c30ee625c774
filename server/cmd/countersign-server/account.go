package main

import (
	"context"
	"fmt"
	"strings"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// jsonFlag is embedded in the commands that can print for programs.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

const accountHelp = `

With --json: {"name", "state": "active" or "suspended", "created", "suspended", "suspend_reason", "trusted_devices", "recovery_codes_left", "recovery_codes_made"}`

// accountWithLanes lacks its last brace, for what else there is.
var accountWithLanes = strings.TrimSuffix(accountHelp, "}") + ", " + lanesHelp

type accountJSON struct {
	Name           string `json:"name"`
	State          string `json:"state"`
	Created        int64  `json:"created"`
	Suspended      int64  `json:"suspended,omitempty"`
	SuspendReason  string `json:"suspend_reason,omitempty"`
	TrustedDevices int32  `json:"trusted_devices"`
	RecoveryLeft   int32  `json:"recovery_codes_left"`
	RecoveryMade   int64  `json:"recovery_codes_made,omitempty"`
}

func accountObject(a *pb.Account) accountJSON {
	return accountJSON{
		Name:           a.GetName(),
		State:          enumWord(a.GetState(), "ACCOUNT_STATE_"),
		Created:        unix(a.GetCreateTime()),
		Suspended:      unix(a.GetSuspendTime()),
		SuspendReason:  a.GetSuspendReason(),
		TrustedDevices: a.GetTrustedDevices(),
		RecoveryLeft:   a.GetRecoveryCodesLeft(),
		RecoveryMade:   unix(a.GetRecoveryCodesTime()),
	}
}

type accountAddCmd struct {
	Name string `arg:"" help:"The name, which is never changed nor given to somebody else: 1 to 64 characters of a-z, 0-9 and . _ @ + -, beginning with a letter or digit."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (accountAddCmd) Help() string {
	return "The account can be signed in to once it has a trusted device: see  invite create." + accountHelp
}

// Run adds an account.
func (c *accountAddCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.AddAccount(ctx, &pb.AddAccountRequest{Name: c.Name})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(accountObject(resp.GetAccount()))
		}
		name := safe(resp.GetAccount().GetName())
		fmt.Fprintf(env.out, "Added the account %s. Next, invite its first device:  %s\n", name, env.command("invite create", name))
		return nil
	})
}

type accountListCmd struct{ jsonFlag }

// Help implements [kong.HelpProvider].
func (accountListCmd) Help() string {
	return `With --json: {"accounts": [...]}, each as account show prints it.`
}

// Run lists the accounts.
func (c *accountListCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		accounts, err := all(0, func(size int32, token string) ([]*pb.Account, string, error) {
			resp, err := admin.ListAccounts(ctx, &pb.ListAccountsRequest{PageSize: size, PageToken: token})
			return resp.GetAccounts(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		if c.JSON {
			objects := make([]accountJSON, len(accounts))
			for i, a := range accounts {
				objects[i] = accountObject(a)
			}
			return env.printJSON(map[string]any{"accounts": objects})
		}
		if len(accounts) == 0 {
			fmt.Fprintf(env.out, "There are no accounts. Add one:  %s\n", env.command("account add NAME"))
			return nil
		}
		t := newTable(env.out, "ACCOUNT", "STATE", "DEVICES", "CREATED")
		for _, a := range accounts {
			t.row(safe(a.GetName()), enumWord(a.GetState(), "ACCOUNT_STATE_"), fmt.Sprint(a.GetTrustedDevices()), local(a.GetCreateTime()))
		}
		return t.flush()
	})
}

type accountShowCmd struct {
	Account string `arg:"" help:"The account's name."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (accountShowCmd) Help() string {
	return accountWithLanes[2:] + `, "devices": [...]}; devices as device show prints them.`
}

// Run shows an account.
func (c *accountShowCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.GetAccount(ctx, &pb.GetAccountRequest{Name: c.Account})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(struct {
				accountJSON
				lanesJSON
				Devices []deviceJSON `json:"devices"`
			}{accountObject(resp.GetAccount()), lanesObject(resp.GetAccount()), deviceObjects(resp.GetDevices())})
		}
		if err := showAccount(env, resp.GetAccount()); err != nil {
			return err
		}
		if err := showLanes(env, resp.GetAccount()); err != nil || len(resp.GetDevices()) == 0 {
			return err
		}
		fmt.Fprintln(env.out)
		listDevices(env, resp.GetDevices())
		return nil
	})
}

func showAccount(env *environment, a *pb.Account) error {
	s := newSheet(env)
	s.line("Account", safe(a.GetName()))
	s.line("State", enumWord(a.GetState(), "ACCOUNT_STATE_"))
	s.line("Created", local(a.GetCreateTime()))
	s.line("Suspended", local(a.GetSuspendTime()))
	s.line("Reason", quoted(a.GetSuspendReason()))
	s.line("Trusted devices", fmt.Sprint(a.GetTrustedDevices()))
	s.line("Recovery codes", recoveryLine(a))
	return s.print()
}

// recoveryLine says how many recovery codes are left. What they are, nobody can
// be shown any more.
func recoveryLine(a *pb.Account) string {
	if a.GetRecoveryCodesLeft() == 0 {
		return "none left"
	}
	return fmt.Sprintf("%d left, made %s", a.GetRecoveryCodesLeft(), local(a.GetRecoveryCodesTime()))
}

type accountSuspendCmd struct {
	Account string `arg:"" help:"The account's name."`
	Reason  string `placeholder:"TEXT" help:"Why, for the record; at most 64 characters."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (accountSuspendCmd) Help() string {
	return "Nothing rings, and no decision and no code counts, until  account resume. Open sign-ins are cancelled and stay so." + accountHelp
}

// Run suspends an account.
func (c *accountSuspendCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.SuspendAccount(ctx, &pb.SuspendAccountRequest{Name: c.Account, Reason: c.Reason})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(accountObject(resp.GetAccount()))
		}
		fmt.Fprintf(env.out, "The account %s is suspended since %s.\n", safe(c.Account), local(resp.GetAccount().GetSuspendTime()))
		return nil
	})
}

type accountResumeCmd struct {
	Account string `arg:"" help:"The account's name."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (accountResumeCmd) Help() string { return accountHelp[2:] }

// Run resumes an account.
func (c *accountResumeCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.ResumeAccount(ctx, &pb.ResumeAccountRequest{Name: c.Account})
		if err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(accountObject(resp.GetAccount()))
		}
		fmt.Fprintf(env.out, "The account %s is active.\n", safe(c.Account))
		return nil
	})
}
