package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// An admission is what a verified code gives, checked as an application
// should check it.
type admission struct {
	credentials credentials
	signIn      *countersignv1.SignIn
	response    *countersignv1.VerifySignInResponse
}

// claims returns the grant's claims, after checking that it is for this sign-in
// of this account at this application and holds now. signed reports whether
// its signature was checked, too, with one of the keys.
func (a admission) claims(keys []statement.JWK, now time.Time) (grant statement.Grant, signed bool, err error) {
	if len(keys) > 0 {
		grant, err = verifyGrant(keys, a.response.GetGrant())
	} else {
		grant, err = decodeGrant(a.response.GetGrant())
	}
	if err != nil {
		return statement.Grant{}, false, fmt.Errorf("the grant is not valid: %w", err)
	}
	switch {
	case grant.Sub != a.signIn.GetAccount(), grant.Aud != a.credentials.Application, grant.SignInID != a.signIn.GetId():
		err = errors.New("the grant is for another account, application or sign-in")
	case now.Unix() >= grant.Exp:
		err = errors.New("the grant is too old: compare this machine's clock with the server's")
	}
	return grant, len(keys) > 0, err
}

func verifyGrant(keys []statement.JWK, jwt string) (statement.Grant, error) {
	for _, jwk := range keys {
		key, err := jwk.PublicKey()
		if err != nil {
			return statement.Grant{}, err
		}
		id, err := pin.KeyID(key)
		if err != nil {
			return statement.Grant{}, err
		}
		if grant, err := statement.Verify[statement.Grant](key, id, jwt); err == nil {
			return grant, nil
		}
	}
	return statement.Grant{}, errors.New("none of the keys in the file has signed it")
}

// decodeGrant reads a grant without checking its signature.
func decodeGrant(jwt string) (statement.Grant, error) {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return statement.Grant{}, errors.New("it is not a JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return statement.Grant{}, errors.New("it is not a JWT")
	}
	var grant statement.Grant
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&grant); err != nil {
		return statement.Grant{}, errors.New("its claims cannot be read")
	}
	for _, s := range append([]string{grant.Acr, grant.Iss, grant.Jti}, grant.Amr...) {
		if text.Check(s) != nil { // it is going to be printed
			return statement.Grant{}, errors.New("its claims cannot be shown")
		}
	}
	return grant, nil
}

// How a grant says that it came about.
const (
	acrCode      = "urn:countersign:acr:code"
	acrRequested = "urn:countersign:acr:requested"
	acrOffline   = "urn:countersign:acr:offline"
)

// checkReceipt checks that the receipt is what the grant says: a statement in
// which the device allowed this sign-in, having been shown the very requester that
// the application described; one in which it asked for a code for the account; or
// none for an offline code, since for that a device signs nothing.
func (a admission) checkReceipt(grant statement.Grant) error {
	receipt := a.response.GetReceipt()
	var jwk statement.JWK
	decoder := json.NewDecoder(strings.NewReader(receipt.GetApprovalKey()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&jwk); err != nil {
		return errors.New("the receipt's key is not a JWK")
	}
	key, err := jwk.PublicKey()
	if err != nil {
		return fmt.Errorf("the receipt's key cannot be used: %w", err)
	}
	switch grant.Acr {
	case acrOffline:
		if receipt.GetStatement() != "" {
			return errors.New("the receipt has a statement, which no device makes for an offline code")
		}
		return nil
	case acrRequested:
		request, err := statement.Verify[statement.CodeRequest](key, receipt.GetDeviceId(), receipt.GetStatement())
		if err != nil {
			return fmt.Errorf("the receipt is not valid: %w", err)
		}
		if request.Account != a.signIn.GetAccount() || request.Aud != grant.Iss || request.ServerKey != a.credentials.ServerKeyID {
			return errors.New("the receipt is about another account or server")
		}
		return nil
	case acrCode:
	default:
		return errors.New("the grant says that it came about in a way that this version does not know")
	}
	decision, err := statement.Verify[statement.Decision](key, receipt.GetDeviceId(), receipt.GetStatement())
	if err != nil {
		return fmt.Errorf("the receipt is not valid: %w", err)
	}
	prompt, err := statement.ParsePrompt(decision.PromptBytes())
	if err != nil {
		return fmt.Errorf("the prompt in the receipt is not valid: %w", err)
	}
	r := a.signIn.GetRequester()
	asked := statement.Requester{Address: r.GetAddress(), Device: r.GetDevice(), Place: r.GetPlace(), Program: r.GetProgram()}
	switch {
	case decision.Decision != statement.Allow:
		return errors.New("the receipt is not for an Allow")
	case decision.Account != a.signIn.GetAccount(), decision.SignIn != a.signIn.GetId(),
		decision.Application != a.credentials.Application, prompt.Action != statement.ActionSignIn:
		return errors.New("the receipt is for another account, application or sign-in")
	case decision.Aud != grant.Iss, decision.ServerKey != a.credentials.ServerKeyID:
		return errors.New("the receipt was signed for another server")
	case prompt.Requester != asked, prompt.Message != a.signIn.GetMessage():
		return errors.New("the device was shown something else than the application said")
	}
	return nil
}

// readKeySet reads a JWK Set (RFC 7517, 5), as "countersign-server keys jwks"
// prints it. Members that are not needed are ignored, as the RFC demands.
func readKeySet(path string) ([]statement.JWK, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	var set struct {
		Keys []statement.JWK `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil || len(set.Keys) == 0 {
		return nil, fmt.Errorf("%s: this is not a JWK Set: give what countersign-server keys jwks printed", path)
	}
	return set.Keys, nil
}
