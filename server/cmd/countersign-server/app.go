package main

import (
	"context"
	"fmt"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

const credentialsHelp = `

With --json: {"server", "server_key_id", "application", "token"}. Kept in a file that nobody else can read, that is what  countersign-agent sign-in --credentials FILE  takes.`

// credentialsJSON is all that an application needs to call the server.
type credentialsJSON struct {
	Server      string `json:"server"`
	ServerKeyID string `json:"server_key_id"`
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
		return env.printJSON(credentialsJSON{srv.GetPublicAddress(), srv.GetServerKeyId(), id, token})
	}
	s := newSheet(env.out)
	s.line("Application", safe(id))
	s.line("Token", token)
	s.line("Server", safe(srv.GetPublicAddress()))
	s.line("Server key id", srv.GetServerKeyId())
	if err := s.flush(); err != nil {
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
	return `With --json: {"applications": [{"id", "name", "created", "token_made"}]}`
}

// Run lists the applications.
func (c *appListCmd) Run(env *environment) error {
	type appJSON struct {
		ID        string `json:"id"`
		Name      string `json:"name"`
		Created   int64  `json:"created"`
		TokenMade int64  `json:"token_made"`
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
				objects[i] = appJSON{a.GetId(), a.GetName(), unix(a.GetCreateTime()), unix(a.GetTokenTime())}
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
