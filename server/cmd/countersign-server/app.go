package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const credentialsHelp = `

With --json: {"server", "server_key_id", "application", "token"}, or with "roots": "system" in place of the key if the server has a certificate that systems know. Kept in a file that nobody else can read, that is what  countersign-agent sign-in --credentials FILE  takes.`

// credentialsJSON is all that an application needs to call the server.
type credentialsJSON struct {
	Server      string `json:"server"`
	ServerKeyID string `json:"server_key_id,omitempty"`
	Roots       string `json:"roots,omitempty"` // "system", in place of the key
	Application string `json:"application"`
	Token       string `json:"token"`
}

// printCredentials shows a token, for the only time.
func printCredentials(ctx context.Context, env *environment, admin pb.AdminServiceClient, id, token string, asJSON bool) error {
	srv, err := admin.GetServer(ctx, &pb.GetServerRequest{})
	if err != nil {
		return err
	}
	if asJSON {
		c := credentialsJSON{Server: srv.GetPublicAddress(), ServerKeyID: srv.GetServerKeyId(), Application: id, Token: token}
		if srv.GetSystemRoots() {
			c.ServerKeyID, c.Roots = "", "system"
		}
		return env.printJSON(c)
	}
	s := newSheet(env)
	s.line("Application", safe(id))
	s.line("Token", token)
	s.line("Server", safe(srv.GetPublicAddress()))
	if srv.GetSystemRoots() {
		s.line("Server is known by", "its certificate, under the system's roots")
	} else {
		s.line("Server key id", srv.GetServerKeyId())
	}
	if err := s.print(); err != nil {
		return err
	}
	fmt.Fprintln(env.out, "\nThe token is a password of the application. It is shown only now and kept as a hash.")
	return nil
}

type appAddCmd struct {
	ID   string `arg:"" help:"The id: 1 to 32 characters of a-z, 0-9 and -, beginning with a letter."`
	Name string `placeholder:"TEXT" help:"The name that prompts show, at most 64 characters. Default: the id."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (appAddCmd) Help() string {
	return "The token that it prints is what the application authenticates with. It cannot be shown again." + credentialsHelp
}

// Run registers an application.
func (c *appAddCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		name := c.Name
		if name == "" {
			name = c.ID
		}
		resp, err := admin.AddApplication(ctx, &pb.AddApplicationRequest{Id: c.ID, Name: name})
		if err != nil {
			return err
		}
		return printCredentials(ctx, env, admin, resp.GetApplication().GetId(), resp.GetToken(), c.JSON)
	})
}

type appListCmd struct{ jsonFlag }

// Help implements [kong.HelpProvider].
func (appListCmd) Help() string {
	return `With --json: {"applications": [{"id", "name", "created", "token_made", "policy"}]}; the policy as  app set --json  shows it.`
}

// Run lists the applications.
func (c *appListCmd) Run(env *environment) error {
	type appJSON struct {
		ID        string     `json:"id"`
		Name      string     `json:"name"`
		Created   int64      `json:"created"`
		TokenMade int64      `json:"token_made"`
		Policy    policyJSON `json:"policy"`
	}
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		apps, err := all(0, func(size int32, token string) ([]*pb.Application, string, error) {
			resp, err := admin.ListApplications(ctx, &pb.ListApplicationsRequest{PageSize: size, PageToken: token})
			return resp.GetApplications(), resp.GetNextPageToken(), err
		})
		if err != nil {
			return err
		}
		if c.JSON {
			objects := make([]appJSON, len(apps))
			for i, a := range apps {
				objects[i] = appJSON{a.GetId(), a.GetName(), unix(a.GetCreateTime()), unix(a.GetTokenTime()), policyOf(a)}
			}
			return env.printJSON(map[string]any{"applications": objects})
		}
		if len(apps) == 0 {
			fmt.Fprintf(env.out, "There are no applications. Register one:  %s\n", env.command("app add ID"))
			return nil
		}
		t := newTable(env.out, "APPLICATION", "NAME", "CREATED", "TOKEN MADE")
		for _, a := range apps {
			t.row(safe(a.GetId()), quoted(a.GetName()), local(a.GetCreateTime()), local(a.GetTokenTime()))
		}
		return t.flush()
	})
}

// A policyJSON is a policy for programs; lifetimes are seconds.
type policyJSON struct {
	PromptLifetime int64 `json:"prompt_lifetime"`
	CodeLifetime   int64 `json:"code_lifetime"`
	Tries          int32 `json:"tries"`
	DenialFinal    bool  `json:"denial_final"`
	RequestedCodes bool  `json:"requested_codes"`
	OfflineCodes   bool  `json:"offline_codes"`
}

func policyOf(a *pb.Application) policyJSON {
	p := a.GetPolicy()
	return policyJSON{
		p.GetPromptLifetime().GetSeconds(), p.GetCodeLifetime().GetSeconds(), p.GetTries(),
		p.GetDenialFinal(), p.GetRequestedCodes(), p.GetOfflineCodes(),
	}
}

type appSetCmd struct {
	ID             string         `arg:"" help:"The application's id."`
	PromptLifetime *time.Duration `placeholder:"TIME" help:"How long a prompt waits for an answer: 30s to 8m; 5m unless set."`
	CodeLifetime   *time.Duration `placeholder:"TIME" help:"How long the code after Allow is good: 30s to 5m; 2m unless set."`
	Tries          *int32         `placeholder:"N" help:"How many codes are compared for one sign-in: 1 to 5; 5 unless set."`
	DenialFinal    string         `placeholder:"yes|no" enum:"yes,no," default:"" help:"Whether a denial is final; unless it is, a code that is got on a trusted device afterwards lets in after all. No unless set."`
	RequestedCodes string         `placeholder:"yes|no" enum:"yes,no," default:"" help:"Whether a code that was asked for without a prompt counts. Yes unless set."`
	OfflineCodes   string         `placeholder:"yes|no" enum:"yes,no," default:"" help:"Whether an offline code counts: eight digits that a device makes without a network. Yes unless set."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (appSetCmd) Help() string {
	return `What is not given stays as it is; with nothing given it shows the policy. Prompt and code together last ten minutes at most (NIST SP 800-63B-4, 3.1.3.2). Sign-ins that are open keep their lifetimes and tries.

With --json: {"prompt_lifetime", "code_lifetime", "tries", "denial_final", "requested_codes", "offline_codes"}; lifetimes are seconds.`
}

// Run changes a policy.
func (c *appSetCmd) Run(env *environment) error {
	policy := &pb.ApplicationPolicy{}
	if c.PromptLifetime != nil {
		policy.PromptLifetime = durationpb.New(*c.PromptLifetime)
	}
	if c.CodeLifetime != nil {
		policy.CodeLifetime = durationpb.New(*c.CodeLifetime)
	}
	policy.Tries = c.Tries
	if c.DenialFinal != "" {
		policy.DenialFinal = proto.Bool(c.DenialFinal == "yes")
	}
	if c.RequestedCodes != "" {
		policy.RequestedCodes = proto.Bool(c.RequestedCodes == "yes")
	}
	if c.OfflineCodes != "" {
		policy.OfflineCodes = proto.Bool(c.OfflineCodes == "yes")
	}
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.SetApplicationPolicy(ctx, &pb.SetApplicationPolicyRequest{Id: c.ID, Policy: policy})
		if err != nil {
			return policyFlag(err)
		}
		if c.JSON {
			return env.printJSON(policyOf(resp.GetApplication()))
		}
		p := resp.GetApplication().GetPolicy()
		s := newSheet(env)
		s.line("Application", safe(resp.GetApplication().GetId()))
		s.line("Prompt lifetime", p.GetPromptLifetime().AsDuration().String())
		s.line("Code lifetime", p.GetCodeLifetime().AsDuration().String())
		s.line("Tries", strconv.Itoa(int(p.GetTries())))
		s.line("Denial final", yesNo(p.GetDenialFinal()))
		s.line("Requested codes", yesNo(p.GetRequestedCodes()))
		s.line("Offline codes", yesNo(p.GetOfflineCodes()))
		return s.print()
	})
}

// policyFlag puts a flag's name in place of the field's that the server names.
func policyFlag(err error) error {
	field, words, _ := strings.Cut(status.Convert(err).Message(), ": ")
	name, found := strings.CutPrefix(field, "policy.")
	if !found {
		return err
	}
	return fmt.Errorf("--%s: %s", strings.ReplaceAll(name, "_", "-"), words)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

type appRotateCmd struct {
	ID string `arg:"" help:"The application's id."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (appRotateCmd) Help() string {
	return "The old token is refused from this moment on." + credentialsHelp
}

// Run replaces an application's token.
func (c *appRotateCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		resp, err := admin.RotateApplicationToken(ctx, &pb.RotateApplicationTokenRequest{Id: c.ID})
		if err != nil {
			return err
		}
		return printCredentials(ctx, env, admin, resp.GetApplication().GetId(), resp.GetToken(), c.JSON)
	})
}

type appRemoveCmd struct {
	ID string `arg:"" help:"The application's id."`
	jsonFlag
}

// Help implements [kong.HelpProvider].
func (appRemoveCmd) Help() string {
	return `What is on record about it stays. With --json: {"removed": ID}`
}

// Run removes an application.
func (c *appRemoveCmd) Run(env *environment) error {
	return env.administer(func(ctx context.Context, admin pb.AdminServiceClient) error {
		if _, err := admin.RemoveApplication(ctx, &pb.RemoveApplicationRequest{Id: c.ID}); err != nil {
			return err
		}
		if c.JSON {
			return env.printJSON(map[string]string{"removed": c.ID})
		}
		fmt.Fprintf(env.out, "Removed the application %s.\n", safe(c.ID))
		return nil
	})
}
