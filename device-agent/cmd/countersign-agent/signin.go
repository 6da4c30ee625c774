package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/code"
	"github.com/countersignd/countersign/internal/statement"
	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

type signInCmd struct {
	Account          string `arg:"" help:"The account to sign in to."`
	Credentials      string `required:"" placeholder:"FILE" help:"The application's credentials, or - for the first line of standard input."`
	RequesterAddress string `placeholder:"IP" help:"The address that the request comes from (default: unknown)."`
	Place            string `placeholder:"TEXT" help:"The place, for example 'Berlin, Germany' (default: unknown)."`
	Device           string `placeholder:"TEXT" help:"The device that signs in (default: this machine's name)."`
	Program          string `placeholder:"TEXT" help:"The browser or program (default: ${program})."`
	Message          string `placeholder:"TEXT" help:"The application's message to the owner."`
	Session          string `placeholder:"ID" help:"Names the browser session: the same one gets the same open sign-in."`
	Code             string `placeholder:"CODE" help:"The code, of six digits or eight. Without it, it is asked for."`
	Stranger         bool   `help:"Be a requester that is not known, and keep nothing that would make it known next time."`
	NoWait           bool   `help:"Do not wait for the approval: the code was got in another way."`
	AfterDenial      bool   `help:"After a denial, go on asking for a code: one that countersign-agent code shows on a trusted device still lets in."`
	OneField         bool   `help:"Play a device with one field: read one line, the password with the code right behind it."`
	PasswordFile     string `placeholder:"FILE" help:"With --one-field: the password, to check the line with before anybody is asked."`
	JWKS             string `name:"jwks" placeholder:"FILE" help:"Check the grant's signature with these keys, from countersign-server keys jwks."`
	JSON             bool   `name:"json" help:"Print one JSON object at the end; all else goes to standard error."`
}

// Help is shown with sign-in --help.
func (signInCmd) Help() string {
	return `The credentials are what  countersign-server app add ID --json  printed. They are a secret; keep them in a file of mode 600.

It begins a sign-in, waits for the approval on a trusted device and says how far the request has come meanwhile, asks for the code, has it verified, checks the receipt, and prints the grant's claims. The last line is "signed in as ACCOUNT".

A denial by accident is not the end: with --after-denial it goes on asking, and takes a code that  countersign-agent code  shows on a trusted device, until the request expires, unless the application's policy makes a denial final.

` + oneFieldHelp + `

After a sign-in the server knows this requester by a token, which is kept beside the credentials in a file for each account. Known requesters ring in a budget of their own; --stranger does without.

Exit codes: 0 signed in, 1 failed, 4 denied, 5 nobody answered in time or it was cancelled, 6 the code was wrong too often, or was wrong and there is no other, 7 with --one-field: there was no code yet.

With --json: {"signed_in_as", "sign_in", "grant", "grant_signature_checked", "claims", "code_length", "receipt": {"statement", "device_id", "approval_key"}}; the statement is empty after an offline code.`
}

// Validate is called by kong.
func (c *signInCmd) Validate() error {
	switch {
	case c.PasswordFile != "" && !c.OneField:
		return errors.New("--password-file goes with --one-field")
	case c.OneField && (c.Code != "" || c.NoWait || c.AfterDenial):
		return errors.New("with --one-field the code is behind the password: leave out --code, --no-wait and --after-denial")
	}
	return nil
}

// A visit is one sign-in from the application's side.
type visit struct {
	command     *signInCmd
	env         *environment
	out         io.Writer // for words to people
	conn        *agent.Conn
	client      pb.SignInServiceClient
	credentials credentials
	signIn      *pb.SignIn
	asking      asking
}

// patience is how long an unreachable server is called again.
const patience = 30 * time.Second

// Run signs in.
func (c *signInCmd) Run(ctx context.Context, env *environment) error {
	var keys []statement.JWK
	var err error
	if c.JWKS != "" {
		if keys, err = readKeySet(c.JWKS); err != nil {
			return err
		}
	}
	if c.Code != "" { // before anybody is rung for nothing
		if _, err := code.ParseAny(c.Code); err != nil {
			return err
		}
	}
	credentials, err := env.readCredentials(ctx, c.Credentials)
	if err != nil {
		return err
	}
	conn, err := credentials.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	v := &visit{command: c, env: env, out: env.out, conn: conn, client: pb.NewSignInServiceClient(conn), credentials: credentials}
	if c.JSON {
		v.out = env.err
	}
	if c.OneField {
		typed, err := c.readTyped(ctx, env)
		if err != nil {
			return err
		}
		response, err := v.oneField(ctx, typed)
		if err != nil {
			return err
		}
		return v.admit(response, keys)
	}
	if err := v.begin(ctx); err != nil {
		return err
	}
	if !c.NoWait {
		if err := v.wait(ctx); err != nil && !v.deniedOnly() {
			return err
		}
	}
	response, err := v.verify(ctx)
	if err != nil {
		return err
	}
	return v.admit(response, keys)
}

func (v *visit) begin(ctx context.Context) error {
	c := v.command
	requester := &pb.Requester{Address: c.RequesterAddress, Place: c.Place, Device: c.Device, Program: c.Program, Session: c.Session, Token: v.readKnown()}
	if requester.Device == "" {
		requester.Device = hostName()
	}
	if requester.Program == "" {
		requester.Program = program
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := agent.Persist(ctx, func() error {
		begun, err := v.client.BeginSignIn(ctx, &pb.BeginSignInRequest{Account: c.Account, Requester: requester, Message: c.Message})
		if err != nil {
			return v.conn.Explain(err)
		}
		v.signIn = begun.GetSignIn()
		return nil
	})
	if err != nil {
		return err
	}
	if !statement.ValidSignIn(v.signIn.GetId()) || v.signIn.GetAccount() != c.Account || v.signIn.GetApplication() != v.credentials.Application {
		return errors.New("the server began something else than was asked for")
	}
	fmt.Fprintf(v.out, "sign-in: %s\n", v.signIn.GetId())
	fmt.Fprintf(v.out, "asked: %d of %d trusted devices are connected\n", v.signIn.GetConnectedDevices(), v.signIn.GetTrustedDevices())
	v.tellDelivery()
	if silent := v.signIn.GetSilent(); silent != "" {
		v.env.say(v.out, "not rung: %s. Look at the agent on a trusted device, where the request is waiting, or get a code there:  %s code\n", silences[silent], program)
	}
	return nil
}

// wait waits until the sign-in is approved, and longer than the server is away.
func (v *visit) wait(ctx context.Context) error {
	if err := v.watch(ctx, pb.SignInState_SIGN_IN_STATE_PENDING); err != nil {
		return err
	}
	if err := over(v.signIn); err != nil {
		if v.deniedOnly() {
			v.tellDenied()
		}
		return err
	}
	fmt.Fprintln(v.out, "approved: type the code that the trusted device shows")
	return nil
}

// deniedOnly reports whether the sign-in was denied and a code that is asked for on
// a trusted device is wanted still.
func (v *visit) deniedOnly() bool {
	return v.command.AfterDenial && v.signIn.GetState() == pb.SignInState_SIGN_IN_STATE_DENIED
}

func (v *visit) tellDenied() {
	v.env.say(v.out, "denied on a trusted device. If that was by accident, type the code that  %s code  shows on one\n", program)
}

// watch waits until the sign-in is no longer in a state.
func (v *visit) watch(ctx context.Context, state pb.SignInState) error {
	var other error // not stream's error, because that would be tried again
	stream := func() error {
		watch, err := v.client.WatchSignIn(ctx, &pb.WatchSignInRequest{SignInId: v.signIn.GetId()})
		if err != nil {
			return v.conn.Explain(err)
		}
		for {
			message, err := watch.Recv()
			if err != nil {
				return v.conn.Explain(err)
			}
			if message.GetSignIn().GetId() != v.signIn.GetId() {
				other = errors.New("the server told of another sign-in than was asked for")
				return nil
			}
			v.signIn = message.GetSignIn()
			if v.signIn.GetState() != state {
				return nil
			}
			v.tellDelivery()
		}
	}
	if err := agent.Persist(ctx, stream); err != nil {
		return refusal(err)
	}
	return other
}

// tellDelivery says how far the request has come, so that nobody waits in the dark.
func (v *visit) tellDelivery() {
	if v.signIn.GetState() != pb.SignInState_SIGN_IN_STATE_PENDING {
		return
	}
	if line := v.asking.line(v.signIn); line != "" {
		v.env.say(v.out, "%s\n", line)
	}
}

// over says why there is no code to type in a state, if there is none.
func over(signIn *pb.SignIn) error {
	switch state := signIn.GetState(); state {
	case pb.SignInState_SIGN_IN_STATE_APPROVED:
		return nil
	case pb.SignInState_SIGN_IN_STATE_DENIED:
		return exitErr{errors.New("denied on a trusted device"), exitDenied}
	case pb.SignInState_SIGN_IN_STATE_EXPIRED:
		return exitErr{errors.New("nobody answered in time"), exitNotInTime}
	case pb.SignInState_SIGN_IN_STATE_CANCELLED:
		return exitErr{errors.New("the sign-in was cancelled" + causes[signIn.GetCancelCause()]), exitNotInTime}
	case pb.SignInState_SIGN_IN_STATE_VERIFIED:
		return errors.New("the code was used already: begin a new sign-in")
	}
	return fmt.Errorf("the sign-in is in a state that this version does not know: %v", signIn.GetState())
}

// silences say why no device rang.
var silences = map[string]string{
	"budget": "the devices have rung as often in this hour as they may",
	"gap":    "the devices rang a moment ago for a request that came to nothing",
	"source": "the owner said that this address was not hers, or it made them ring too often",
	"lane":   "the owner said more than once that such a request was not hers",
}

// causes are what may have cancelled a sign-in, in words.
var causes = map[string]string{
	"too_many_tries":      ": too many wrong codes were typed",
	"device_revoked":      ": the device that allowed it was revoked",
	"account_suspended":   ": the account was suspended",
	"application_removed": ": the application was removed",
	"clock_changed":       ": the server's clock was set. Begin a new one",
	"restored":            ": the server was restored from a backup",
	"made_room":           ": too many requests of one address are open for this account",
}

// verify asks for the code until it is right or there are no more tries.
func (v *visit) verify(ctx context.Context) (*pb.VerifySignInResponse, error) {
	for {
		typed, err := v.typedInTime(ctx)
		if err != nil {
			return nil, err
		}
		// A code can be used once, so it is not sent again if the answer is
		// lost; but that the server can be reached is made sure of before.
		if err := v.reach(ctx); err != nil {
			return nil, err
		}
		response, err := v.client.VerifySignIn(ctx, &pb.VerifySignInRequest{SignInId: v.signIn.GetId(), Code: typed})
		if err == nil {
			return response, nil
		}
		again := agent.Reason(err) == pb.ErrorReason_ERROR_REASON_SIGN_IN_PENDING ||
			agent.Reason(err) == pb.ErrorReason_ERROR_REASON_CODE_REFUSED ||
			agent.Reason(err) == pb.ErrorReason_ERROR_REASON_CODE_WRONG && agent.Metadata(err, "tries_left") != "0" ||
			agent.Reason(err) == pb.ErrorReason_ERROR_REASON_SIGN_IN_DENIED && v.deniedOnly()
		err = refusal(v.conn.Explain(err))
		if !again || v.command.Code != "" {
			return nil, err
		}
		v.env.say(v.env.err, "%v\n", err)
	}
}

func (v *visit) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return agent.Persist(ctx, func() error { return v.conn.Ready(ctx) })
}

// typedInTime returns a code, or says why they are not wanted any more: the
// person is not left to type a code that was taken back.
func (v *visit) typedInTime(ctx context.Context) (string, error) {
	if v.command.Code != "" || v.command.NoWait {
		return v.typed(ctx)
	}
	if v.deniedOnly() {
		return v.typedAfterDenial(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		if v.watch(ctx, pb.SignInState_SIGN_IN_STATE_APPROVED) != nil {
			return
		}
		if v.deniedOnly() {
			v.tellDenied() // and the line that is being read may hold another code
			return
		}
		cancel(over(v.signIn))
	})
	typed, err := v.typed(ctx)
	cause := context.Cause(ctx)
	cancel(nil)
	watching.Wait()
	switch {
	case err != nil && cause != nil:
		return "", cause
	case err != nil && v.deniedOnly():
		return "", over(v.signIn)
	}
	return typed, err
}

// typedAfterDenial returns a code, as long as they could count. If none come,
// the denial stands.
func (v *visit) typedAfterDenial(ctx context.Context) (string, error) {
	inTime, cancel := context.WithDeadline(ctx, v.signIn.GetExpireTime().AsTime())
	defer cancel()
	typed, err := v.typed(inTime)
	if err != nil && ctx.Err() == nil {
		return "", over(&pb.SignIn{State: pb.SignInState_SIGN_IN_STATE_DENIED})
	}
	return typed, err
}

// typed returns six digits or eight. What is not a code is not sent, as it would use up a try.
func (v *visit) typed(ctx context.Context) (string, error) {
	if v.command.Code != "" {
		return code.ParseAny(v.command.Code)
	}
	for {
		if v.env.tty != nil {
			fmt.Fprint(v.env.err, "Code: ")
		}
		line, err := v.env.readLine(ctx)
		if errors.Is(err, io.EOF) {
			return "", exitErr{errors.New("there is no code: standard input has ended"), exitWrongCode}
		}
		if err != nil {
			return "", err
		}
		digits, err := code.ParseAny(line)
		if err == nil {
			return digits, nil
		}
		v.env.say(v.env.err, "%v\n", err)
	}
}

// refusal gives an error of the server its exit code.
func refusal(err error) error {
	switch agent.Reason(err) {
	case pb.ErrorReason_ERROR_REASON_SIGN_IN_DENIED:
		return exitErr{err, exitDenied}
	case pb.ErrorReason_ERROR_REASON_SIGN_IN_EXPIRED, pb.ErrorReason_ERROR_REASON_SIGN_IN_CANCELLED:
		return exitErr{err, exitNotInTime}
	case pb.ErrorReason_ERROR_REASON_CODE_WRONG, pb.ErrorReason_ERROR_REASON_CODE_REFUSED, pb.ErrorReason_ERROR_REASON_TOO_MANY_TRIES, pb.ErrorReason_ERROR_REASON_TOO_MANY_FAILURES:
		return exitErr{err, exitWrongCode}
	}
	return err
}

// admit checks what the server gave, and prints it.
func (v *visit) admit(response *pb.VerifySignInResponse, keys []statement.JWK) error {
	a := admission{v.credentials, v.signIn, response}
	grant, signed, err := a.claims(keys, time.Now())
	if err != nil {
		return err
	}
	if err := a.checkReceipt(grant); err != nil {
		return err
	}
	v.keepKnown(response.GetRequesterToken())
	if v.command.JSON {
		receipt := response.GetReceipt()
		return v.env.printJSON(map[string]any{
			"signed_in_as": grant.Sub, "sign_in": grant.SignInID,
			"grant": response.GetGrant(), "grant_signature_checked": signed, "claims": grant, "code_length": response.GetCodeLength(),
			"receipt": map[string]string{"statement": receipt.GetStatement(), "device_id": receipt.GetDeviceId(), "approval_key": receipt.GetApprovalKey()},
		})
	}
	device := agent.Fingerprint(response.GetReceipt().GetDeviceId())
	if grant.Acr == acrOffline {
		v.env.say(v.out, "receipt: none, as an offline code is signed by nobody; it was the device %s, by the server's word\n", device)
	} else {
		fmt.Fprintf(v.out, "receipt: signed by the device %s, about this sign-in\n", device)
	}
	if signed {
		fmt.Fprintln(v.out, "grant: its signature is right")
	} else {
		fmt.Fprintln(v.out, "grant: its signature was not checked (give --jwks)")
	}
	fmt.Fprint(v.out, "claims: ")
	if err := v.env.printJSON(grant); err != nil {
		return err
	}
	_, err = fmt.Fprintf(v.out, "signed in as %s\n", grant.Sub)
	return err
}
