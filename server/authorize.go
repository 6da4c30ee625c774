package server

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/tap"

	"github.com/countersignd/countersign/server/approval"
)

// A callerKind is what a caller must show to be heard. Whether what it shows
// is trusted, package approval decides, in the transaction of the operation.
type callerKind int

const (
	nobody        callerKind = iota // the zero value: a method without a row
	anyone                          // needs nothing
	certificate                     // a TLS client certificate, of a device that may be new
	device                          // a TLS client certificate
	application                     // a bearer token
	administrator                   // the uid of root or of the server itself
)

func (k callerKind) String() string {
	return [...]string{"nobody", "anyone", "certificate", "device", "application", "administrator"}[k]
}

// A method is a row of the table of methods.
type method struct {
	caller callerKind
	log    bool // a line in the log for each call, not only for faults
}

// methods says who may call what: full method names, compared byte for byte.
// A method that is not here is refused, and [New] fails if one that is served
// is missing.
var methods = map[string]method{
	"/countersign.v1.EnrollmentService/GetDeployment": {certificate, false},
	"/countersign.v1.EnrollmentService/EnrollDevice":  {certificate, true},
	"/countersign.v1.EnrollmentService/RequestTrust":  {certificate, true},
	"/countersign.v1.EnrollmentService/CompleteTrust": {certificate, true},
	"/countersign.v1.EnrollmentService/RecoverDevice": {certificate, true},

	"/countersign.v1.DeviceService/WatchPrompts":        {device, false},
	"/countersign.v1.DeviceService/DecideSignIn":        {device, true},
	"/countersign.v1.DeviceService/CreateCode":          {device, true},
	"/countersign.v1.DeviceService/CreateRecoveryCodes": {device, true},
	"/countersign.v1.DeviceService/ListDevices":         {device, false},
	"/countersign.v1.DeviceService/RevokeDevice":        {device, true},
	"/countersign.v1.DeviceService/ReadmitDevice":       {device, true},
	"/countersign.v1.DeviceService/Unlock":              {device, true},
	"/countersign.v1.DeviceService/UpdateDevice":        {device, true},
	"/countersign.v1.DeviceService/ReportPrompts":       {device, false},
	"/countersign.v1.DeviceService/TestDevice":          {device, true},
	"/countersign.v1.DeviceService/ListRecentSignIns":   {device, false},
	"/countersign.v1.DeviceService/GetSelf":             {device, false},

	"/countersign.v1.DeviceService/GetConsistencyProof": {device, false},

	"/countersign.v1.SignInService/BeginSignIn":  {application, true},
	"/countersign.v1.SignInService/WatchSignIn":  {application, false},
	"/countersign.v1.SignInService/VerifySignIn": {application, true},
	"/countersign.v1.SignInService/CancelSignIn": {application, true},

	"/countersign.v1.AdminService/GetServer":              {administrator, false},
	"/countersign.v1.AdminService/AddAccount":             {administrator, true},
	"/countersign.v1.AdminService/ListAccounts":           {administrator, false},
	"/countersign.v1.AdminService/GetAccount":             {administrator, false},
	"/countersign.v1.AdminService/SuspendAccount":         {administrator, true},
	"/countersign.v1.AdminService/ResumeAccount":          {administrator, true},
	"/countersign.v1.AdminService/UnlockAccount":          {administrator, true},
	"/countersign.v1.AdminService/CreateInvitation":       {administrator, true},
	"/countersign.v1.AdminService/ListAccountDevices":     {administrator, false},
	"/countersign.v1.AdminService/GetAccountDevice":       {administrator, false},
	"/countersign.v1.AdminService/RevokeAccountDevice":    {administrator, true},
	"/countersign.v1.AdminService/ConfirmDevices":         {administrator, true},
	"/countersign.v1.AdminService/RevokeAccountDevices":   {administrator, true},
	"/countersign.v1.AdminService/ReadmitAccountDevice":   {administrator, true},
	"/countersign.v1.AdminService/TestAccountDevice":      {administrator, true},
	"/countersign.v1.AdminService/AddApplication":         {administrator, true},
	"/countersign.v1.AdminService/ListApplications":       {administrator, false},
	"/countersign.v1.AdminService/SetApplicationPolicy":   {administrator, true},
	"/countersign.v1.AdminService/RotateApplicationToken": {administrator, true},
	"/countersign.v1.AdminService/RemoveApplication":      {administrator, true},
	"/countersign.v1.AdminService/ListSignIns":            {administrator, false},
	"/countersign.v1.AdminService/GetSignIn":              {administrator, false},
	"/countersign.v1.AdminService/ListAuditRecords":       {administrator, false},
	"/countersign.v1.AdminService/GetCheckpoint":          {administrator, false},
	"/countersign.v1.AdminService/GetKeys":                {administrator, false},
	"/countersign.v1.AdminService/Backup":                 {administrator, true},

	"/grpc.health.v1.Health/Check": {anyone, false},
	"/grpc.health.v1.Health/List":  {anyone, false},
	"/grpc.health.v1.Health/Watch": {anyone, false},
}

// checkMethods returns an error if a method that g serves has no row.
func checkMethods(g *grpc.Server) error {
	for service, info := range g.GetServiceInfo() {
		for _, m := range info.Methods {
			name := "/" + service + "/" + m.Name
			if methods[name].caller == nobody {
				return fmt.Errorf("nobody may call %s: it has no row in the table of methods", name)
			}
		}
	}
	return nil
}

// A caller is what the one who calls has shown.
type caller struct {
	kind   callerKind
	device string // certificate, device: the key id of the certificate
	token  string // application
	uid    uint32 // administrator
	conn   *conn  // certificate, device, application
}

type callerKey struct{}

// callerOf returns the caller that the interceptor found for this call.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// identify returns the caller of a method with the one credential that counts
// for it. A certificate belongs to the connection and may be there for another
// service; metadata belongs to the call, so a token where none is asked for is
// a mistake, and refused.
func (s *Server) identify(ctx context.Context, fullMethod string) (caller, error) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return caller{}, errNotAllowed
	}
	secure, _ := p.AuthInfo.(tlsPeer)
	authorization := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch kind := methods[fullMethod].caller; kind {
	case anyone:
		return caller{kind: kind}, nil
	case certificate, device:
		if len(authorization) > 0 {
			return caller{}, errStrayToken
		}
		if secure.device == "" {
			return caller{}, errNoCertificate
		}
		return caller{kind: kind, device: secure.device, conn: secure.conn}, nil
	case application:
		token, ok := bearer(authorization)
		if !ok || secure.conn == nil {
			return caller{}, errNoToken
		}
		return caller{kind: kind, token: token, conn: secure.conn}, nil
	case administrator:
		local, ok := p.AuthInfo.(socketPeer)
		if !ok || !slices.Contains(s.administrators, local.uid) {
			return caller{}, errNotAdministrator
		}
		return caller{kind: kind, uid: local.uid}, nil
	}
	return caller{}, errNotAllowed
}

// maxToken is more than any token has.
const maxToken = 256

// bearer returns the token of the only authorization value (RFC 6750, 2.1).
// The scheme is compared without regard to case (RFC 9110, 11.1), the token is
// taken as it is.
func bearer(values []string) (token string, ok bool) {
	const scheme = "bearer "
	if len(values) != 1 || len(values[0]) <= len(scheme) || !equalFold(values[0][:len(scheme)], scheme) {
		return "", false
	}
	token = values[0][len(scheme):]
	if len(token) > maxToken {
		return "", false
	}
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' || c == ',' {
			return "", false
		}
	}
	return token, true
}

// equalFold compares ASCII; strings.EqualFold knows the Kelvin sign.
func equalFold(s, lower string) bool {
	for i := range len(lower) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return len(s) == len(lower)
}

// trustedUIDs returns who may administer: root and the server's own user.
func trustedUIDs() []uint32 {
	return []uint32{0, uint32(os.Geteuid())}
}

// actor names the administrator for the record: "uid 1000 (ada)".
func (c caller) actor() approval.Actor {
	id := strconv.FormatUint(uint64(c.uid), 10)
	name := "unknown user"
	if u, err := user.LookupId(id); err == nil {
		name = u.Username
	}
	return approval.Actor{Kind: approval.ActorAdministrator, ID: "uid " + id + " (" + name + ")"}
}

// limitStreams is asked before gRPC takes a new stream in, and holds each
// connection to its number of calls. The number that the transport announces
// (SETTINGS_MAX_CONCURRENT_STREAMS) is one for all connections and is sent
// before the handshake could tell an agent from an application, so it is the
// larger one, and the smaller one is kept here. Since a stream is counted from
// its headers on, so are calls whose message never comes.
//
// A stranger that shows an application's token is that application's from here
// on, before its call is charged to what all strangers share.
func (s *Server) limitStreams(ctx context.Context, info *tap.Info) (context.Context, error) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return ctx, errNotAllowed.status().Err()
	}
	secure, ok := p.AuthInfo.(tlsPeer)
	if !ok {
		return ctx, errNotAllowed.status().Err()
	}
	if methods[info.FullMethodName].caller == application && secure.conn.stranger() {
		if token, ok := bearer(info.Header.Get("authorization")); ok {
			if app := s.broker.ApplicationOf(ctx, token); app != "" {
				secure.conn.promote(classApplication, app)
			}
		}
	}
	done, refused := secure.conn.openStream(ctx, time.Now())
	if refused != nil {
		return ctx, refused.status().Err()
	}
	return context.WithValue(ctx, doneKey{}, done), nil
}

// doneKey is the context's key of what gives a call's place back.
type doneKey struct{}

// done gives the call's place on its connection back.
func done(ctx context.Context) {
	if give, ok := ctx.Value(doneKey{}).(func()); ok {
		give()
	}
}
