package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/countersignd/countersign/internal/statement"
)

// An admission is what an application gets when the code was right.
type admission struct {
	Account string `json:"signed_in_as"`
	Grant   string
	Receipt struct {
		Statement   string
		DeviceID    string `json:"device_id"`
		ApprovalKey string `json:"approval_key"`
	}
}

// check does what a careful application does: it takes nobody's word for it.
func (s *stage) check(ctx context.Context, a admission) error {
	s.step("What the application got, and checks for itself")
	if err := s.checkGrant(ctx, a.Grant); err != nil {
		return fmt.Errorf("checking the grant: %w", err)
	}
	if err := s.checkReceipt(ctx, a); err != nil {
		return fmt.Errorf("checking the receipt: %w", err)
	}
	return nil
}

// checkGrant checks the grant with the key that the server publishes.
func (s *stage) checkGrant(ctx context.Context, jws string) error {
	var published struct {
		Keys []struct {
			statement.JWK
			Kid string
		}
	}
	if err := s.admin(ctx, &published, "keys", "jwks"); err != nil {
		return err
	}
	if len(published.Keys) != 1 {
		return fmt.Errorf("the server publishes %d keys, want 1", len(published.Keys))
	}
	key, err := published.Keys[0].PublicKey()
	if err != nil {
		return err
	}
	grant, err := statement.Verify[statement.Grant](key, published.Keys[0].Kid, jws)
	if err != nil {
		return err
	}
	if grant.Sub != "ada" || grant.Aud != "files" || !time.Now().Before(time.Unix(grant.Exp, 0)) {
		return fmt.Errorf("it is for %s at %s until %v", grant.Sub, grant.Aud, time.Unix(grant.Exp, 0))
	}
	s.say("grant:    signed by the server: %s may use %s,", grant.Sub, grant.Aud)
	s.say("          because of %s, %v", grant.Acr, grant.Amr)
	return nil
}

// checkReceipt checks what the phone signed, with the phone's key, and that
// another word in its place would not pass.
func (s *stage) checkReceipt(ctx context.Context, a admission) error {
	var trusted struct {
		Devices []struct {
			ID            string
			Name          string
			ApprovalKeyID string `json:"approval_key_id"`
		}
	}
	if err := s.admin(ctx, &trusted, "device", "list", "ada"); err != nil {
		return err
	}
	var jwk statement.JWK
	if err := json.Unmarshal([]byte(a.Receipt.ApprovalKey), &jwk); err != nil {
		return err
	}
	key, err := jwk.PublicKey()
	if err != nil {
		return err
	}
	decision, err := statement.Verify[statement.Decision](key, a.Receipt.DeviceID, a.Receipt.Statement)
	if err != nil {
		return err
	}
	prompt, err := statement.ParsePrompt(decision.PromptBytes())
	if err != nil {
		return err
	}
	signer := ""
	for _, d := range trusted.Devices {
		if d.ID == decision.Device && d.ApprovalKeyID == decision.ApprovalKey {
			signer = d.Name
		}
	}
	if signer == "" || decision.Decision != statement.Allow {
		return errors.New("it is not an allow by a device of Ada's")
	}
	s.say("receipt:  signed by %s. It said %q to this, which was on its screen:", signer, decision.Decision)
	s.say("          %s on a %s in %s (%s),", prompt.Requester.Program, prompt.Requester.Device, prompt.Requester.Place, prompt.Requester.Address)
	s.say("          to %s as %s, at %s", prompt.Application.Name, prompt.Account, time.Unix(prompt.Created, 0).Format(time.TimeOnly))

	forged := []byte(a.Receipt.Statement)
	forged[len(forged)/2] ^= 1
	if _, err := statement.Verify[statement.Decision](key, a.Receipt.DeviceID, string(forged)); err == nil {
		return errors.New("a receipt with one bit changed passed as well")
	}
	s.say("forgery:  the same receipt with one bit changed is refused")
	return nil
}
