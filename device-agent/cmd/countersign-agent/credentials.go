package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
)

// credentials are what an application needs to call its server, as
// "countersign-server app add --json" prints them.
type credentials struct {
	Server      string `json:"server"`
	ServerKeyID string `json:"server_key_id"` // either this
	Roots       string `json:"roots"`         // or "system"
	Application string `json:"application"`
	Token       string `json:"token"`
}

// maxCredentials is far more than credentials have.
const maxCredentials = 16 << 10

// readCredentials reads credentials from a file, or from standard input if
// path is "-": then from its first line, since the code may follow.
func (env *environment) readCredentials(ctx context.Context, path string) (credentials, error) {
	if path == "-" {
		line, err := env.readLine(ctx)
		if err != nil && !errors.Is(err, io.EOF) { // with nothing at all, parseCredentials says what is missing
			return credentials{}, fmt.Errorf("reading credentials from standard input: %w", err)
		}
		return parseCredentials([]byte(line))
	}
	f, err := os.Open(path)
	if err != nil {
		return credentials{}, fmt.Errorf("reading credentials: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		env.say(env.err, "%s: warning: others can read %s, which holds a secret: run chmod 600 on it\n", program, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCredentials+1))
	if err != nil {
		return credentials{}, fmt.Errorf("reading credentials: %w", err)
	}
	return parseCredentials(data)
}

var errCredentials = errors.New("these are not an application's credentials: give the JSON object that countersign-server app add --json printed")

// parseCredentials accepts an object with four members, each once. The
// error repeats nothing of it, since the token may be anywhere in it.
func parseCredentials(data []byte) (credentials, error) {
	var c credentials
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if len(data) > maxCredentials || decoder.Decode(&c) != nil {
		return credentials{}, errCredentials
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return credentials{}, errCredentials
	}
	known := "server_key_id"
	if c.Roots == "system" && c.ServerKeyID == "" {
		known = "roots"
	} else if c.Roots != "" || !pin.ValidKeyID(c.ServerKeyID) {
		return credentials{}, errCredentials
	}
	for _, member := range []string{"server", known, "application", "token"} {
		if bytes.Count(data, []byte(`"`+member+`"`)) != 1 {
			return credentials{}, errCredentials
		}
	}
	_, _, err := net.SplitHostPort(c.Server)
	printable := !strings.ContainsFunc(c.Token, func(r rune) bool { return r <= ' ' || r > '~' })
	if err != nil || !statement.ValidApplication(c.Application) || c.Token == "" || !printable {
		return credentials{}, errCredentials
	}
	return c, nil
}

func (c credentials) dial() (*agent.Conn, error) {
	return agent.Dial(agent.Server{Address: c.Server, Pin: c.ServerKeyID}, nil, grpc.WithPerRPCCredentials(bearer(c.Token)))
}

// A bearer is a token that goes with each call, over TLS only.
type bearer string

// GetRequestMetadata implements grpc's PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity implements grpc's PerRPCCredentials.
func (bearer) RequireTransportSecurity() bool { return true }
