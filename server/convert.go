package server

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/internal/audit"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server/approval"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// This file turns values of package approval into messages of the API. What it
// does not know becomes the enum's zero value, which means nothing good.

// timestamp returns t as the API writes it; the zero time is left out.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// deviceMessage returns a device with whether it is connected now.
func (s *Server) deviceMessage(d *approval.Device) *pb.Device {
	m := &pb.Device{
		Id:            d.ID,
		Account:       d.Account,
		Name:          d.Name,
		Kind:          deviceKind(d.Kind),
		KeyStorage:    d.KeyStorage,
		ApprovalKeyId: d.ApprovalID,
		State:         deviceState(s.broker.StateOf(d)),
		EnrollTime:    timestamp(d.Enrolled),
		EnrolledBy:    enrolledBy(d.EnrolledBy),
		LastSeenTime:  timestamp(d.LastSeen),
		Connected:     d.State == approval.DeviceTrusted && s.broker.Connected(d.ID),
		RevokeTime:    timestamp(d.Revoked),
		RevokeReason:  d.RevokeReason,
		TrustTime:     timestamp(d.TrustFrom),
		ReadmitTime:   timestamp(d.Readmitted),
		Push:          pushMessage(d.Push),

		LastReachedTime: timestamp(d.Reached),
	}
	if !d.Readmitted.IsZero() {
		m.ReadmittedBy = actorWords(d.ReadmittedBy)
	}
	if d.State == approval.DeviceRevoked {
		m.RevokedBy = actorWords(d.RevokedBy)
	}
	return m
}

func (s *Server) deviceMessages(devices []approval.Device) []*pb.Device {
	messages := make([]*pb.Device, len(devices))
	for i := range devices {
		messages[i] = s.deviceMessage(&devices[i])
	}
	return messages
}

// enrolledBy says how a device came to be trusted: a device of the account
// approved it, an administrator invited it, or it had a recovery code.
func enrolledBy(a approval.Actor) string {
	switch a.Kind {
	case approval.ActorDevice:
		return "approval on " + actorWords(a)
	case approval.ActorRecovery:
		return "a recovery code"
	}
	return "invitation by " + actorWords(a)
}

// actorWords says who did something: an administrator by uid and name, which
// is enough, all others by kind and id.
func actorWords(a approval.Actor) string {
	switch {
	case a.ID == "":
		return string(a.Kind)
	case a.Kind == approval.ActorAdministrator:
		return a.ID
	}
	return string(a.Kind) + " " + a.ID
}

func deviceKind(kind string) pb.DeviceKind {
	switch kind {
	case "terminal":
		return pb.DeviceKind_DEVICE_KIND_TERMINAL
	case "desktop":
		return pb.DeviceKind_DEVICE_KIND_DESKTOP
	case "phone":
		return pb.DeviceKind_DEVICE_KIND_PHONE
	case "tablet":
		return pb.DeviceKind_DEVICE_KIND_TABLET
	case "watch":
		return pb.DeviceKind_DEVICE_KIND_WATCH
	case "other":
		return pb.DeviceKind_DEVICE_KIND_OTHER
	}
	return pb.DeviceKind_DEVICE_KIND_UNSPECIFIED
}

func deviceState(state approval.DeviceState) pb.DeviceState {
	switch state {
	case approval.DeviceTrusted:
		return pb.DeviceState_DEVICE_STATE_TRUSTED
	case approval.DeviceRevoked:
		return pb.DeviceState_DEVICE_STATE_REVOKED
	case approval.DeviceWaiting:
		return pb.DeviceState_DEVICE_STATE_WAITING
	case approval.DeviceDormant:
		return pb.DeviceState_DEVICE_STATE_DORMANT
	case approval.DeviceUnconfirmed:
		return pb.DeviceState_DEVICE_STATE_UNCONFIRMED
	}
	return pb.DeviceState_DEVICE_STATE_UNSPECIFIED
}

// promptsMessage returns the message of a screen without its notices.
func promptsMessage(screen *approval.Screen) *pb.WatchPromptsResponse {
	m := &pb.WatchPromptsResponse{AccountSuspended: screen.Suspended}
	for _, p := range screen.Prompts {
		m.Prompts = append(m.Prompts, &pb.Prompt{SignInId: p.SignIn, Document: p.Document, Silent: p.Silent, RingCount: int32(p.Rings)})
	}
	if t := screen.Test; t != nil {
		m.Tests = []*pb.TestPrompt{{Id: t.ID, RequestedBy: actorWords(t.By), CreateTime: timestamp(t.Created), ExpireTime: timestamp(t.Expires)}}
	}
	for _, c := range screen.Codes {
		m.Codes = append(m.Codes, &pb.OutstandingCode{
			SignInId:   c.SignIn,
			Document:   c.Document,
			Code:       c.Code,
			ExpireTime: timestamp(c.Expires),
		})
	}
	return m
}

func candidateMessage(c *approval.Candidate) *pb.Candidate {
	if c == nil {
		return nil
	}
	return &pb.Candidate{DeviceId: c.Device, Name: c.Name, Kind: c.Kind}
}

// signInMessage returns a sign-in as it is at a moment.
func signInMessage(s *approval.SignIn, now time.Time) *pb.SignIn {
	state := s.At(now)
	m := &pb.SignIn{
		Candidate:   candidateMessage(s.Candidate),
		Id:          s.ID,
		Account:     s.Account,
		Application: s.Application,
		State:       signInState(state),
		Requester: &pb.Requester{
			Address: s.Requester.Address,
			Place:   s.Requester.Place,
			Device:  s.Requester.Device,
			Program: s.Requester.Program,
			Session: s.Requester.Session,
		},
		Message:          s.Message,
		BeginTime:        timestamp(s.Begun),
		ExpireTime:       timestamp(s.Ends(now)),
		EndTime:          timestamp(s.Over(now)),
		TriesLeft:        int32(s.TriesLeft()),
		DecidedBy:        s.DecidedBy,
		DenyReason:       s.DenyReason,
		TrustedDevices:   int32(s.Trusted),
		ConnectedDevices: int32(s.Connected),
		Lane:             string(s.Lane),
		Silent:           string(s.Silent),
		Delivery:         countsMessage(s.Delivery),
		RingTime:         timestamp(s.Rung),
	}
	if state == approval.Cancelled {
		m.CancelCause = string(s.CancelCause)
	}
	return m
}

func noticeMessages(notices []approval.Notice) []*pb.Notice {
	messages := make([]*pb.Notice, len(notices))
	for i := range notices {
		messages[i] = noticeMessage(&notices[i])
	}
	return messages
}

func noticeMessage(n *approval.Notice) *pb.Notice {
	return &pb.Notice{
		Sequence:    n.Sequence,
		Time:        timestamp(n.Time),
		Event:       string(n.Event),
		ActorKind:   string(n.Actor.Kind),
		ActorId:     n.Actor.ID,
		ActorName:   n.ActorName,
		DeviceId:    n.Device,
		DeviceName:  n.DeviceName,
		DeviceKind:  n.DeviceKind,
		Application: n.Application,
		Address:     n.Address,
		Detail:      n.Detail,
	}
}

// appendScreen appends the encoding of a message with all that is on a screen. It
// is that of the notices, most of which other devices have too, and that of all
// else: the encoding of a message is that of its fields, in any order.
func appendScreen(b []byte, screen *approval.Screen) ([]byte, error) {
	encode := proto.MarshalOptions{Deterministic: true}
	b, err := screen.AppendNotices(b, func(n *approval.Notice) ([]byte, error) {
		return encode.Marshal(&pb.WatchPromptsResponse{Notices: []*pb.Notice{noticeMessage(n)}})
	})
	if err != nil {
		return nil, err
	}
	return encode.MarshalAppend(b, promptsMessage(screen))
}

func signInState(state approval.State) pb.SignInState {
	switch state {
	case approval.Pending:
		return pb.SignInState_SIGN_IN_STATE_PENDING
	case approval.Approved:
		return pb.SignInState_SIGN_IN_STATE_APPROVED
	case approval.Verified:
		return pb.SignInState_SIGN_IN_STATE_VERIFIED
	case approval.Denied:
		return pb.SignInState_SIGN_IN_STATE_DENIED
	case approval.Expired:
		return pb.SignInState_SIGN_IN_STATE_EXPIRED
	case approval.Cancelled:
		return pb.SignInState_SIGN_IN_STATE_CANCELLED
	}
	return pb.SignInState_SIGN_IN_STATE_UNSPECIFIED
}

func accountMessage(a *approval.Account) *pb.Account {
	m := &pb.Account{
		Name:           a.Name,
		CreateTime:     timestamp(a.Created),
		SuspendTime:    timestamp(a.Suspended),
		SuspendReason:  a.SuspendReason,
		TrustedDevices: int32(a.Trusted),

		RecoveryCodesLeft: int32(a.RecoveryCodes),
		RecoveryCodesTime: timestamp(a.RecoveryMade),
	}
	switch a.State {
	case approval.AccountActive:
		m.State = pb.AccountState_ACCOUNT_STATE_ACTIVE
	case approval.AccountSuspended:
		m.State = pb.AccountState_ACCOUNT_STATE_SUSPENDED
	}
	return m
}

func applicationMessage(a *approval.Application) *pb.Application {
	return &pb.Application{
		Id:         a.ID,
		Name:       a.Name,
		CreateTime: timestamp(a.Created),
		TokenTime:  timestamp(a.TokenMade),
		Policy:     policyMessage(a.Policy.WithDefaults()),
	}
}

func policyMessage(p approval.Policy) *pb.ApplicationPolicy {
	return &pb.ApplicationPolicy{
		PromptLifetime: durationpb.New(p.PromptLifetime),
		CodeLifetime:   durationpb.New(p.CodeLifetime),
		Tries:          proto.Int32(int32(p.Tries)),
		DenialFinal:    proto.Bool(p.DenialFinal),
		RequestedCodes: proto.Bool(!p.RefuseRequested),
		OfflineCodes:   proto.Bool(!p.RefuseOffline),
	}
}

// policyChange returns what a request changes in a policy.
func policyChange(m *pb.ApplicationPolicy) (func(*approval.Policy), error) {
	for name, d := range map[string]*durationpb.Duration{"prompt_lifetime": m.GetPromptLifetime(), "code_lifetime": m.GetCodeLifetime()} {
		if d != nil && (d.CheckValid() != nil || d.AsDuration() <= 0) {
			return nil, invalidField("policy."+name, "want a positive duration")
		}
	}
	if m != nil && m.Tries != nil && m.GetTries() < 1 {
		return nil, invalidField("policy.tries", "want at least 1")
	}
	return func(p *approval.Policy) {
		if d := m.GetPromptLifetime(); d != nil {
			p.PromptLifetime = d.AsDuration()
		}
		if d := m.GetCodeLifetime(); d != nil {
			p.CodeLifetime = d.AsDuration()
		}
		if m != nil && m.Tries != nil {
			p.Tries = int(m.GetTries())
		}
		if m != nil && m.DenialFinal != nil {
			p.DenialFinal = m.GetDenialFinal()
		}
		if m != nil && m.RequestedCodes != nil {
			p.RefuseRequested = !m.GetRequestedCodes()
		}
		if m != nil && m.OfflineCodes != nil {
			p.RefuseOffline = !m.GetOfflineCodes()
		}
	}, nil
}

func recordMessages(records []approval.Entry) []*pb.AuditRecord {
	messages := make([]*pb.AuditRecord, len(records))
	for i, r := range records {
		messages[i] = &pb.AuditRecord{
			Sequence:    r.Sequence,
			Time:        timestamp(r.Time),
			Event:       string(r.Event),
			Actor:       &pb.Actor{Kind: string(r.Actor.Kind), Id: r.Actor.ID},
			Account:     r.Account,
			Device:      r.Device,
			Application: r.Application,
			SignIn:      r.SignIn,
			Address:     r.Address,
			Detail:      r.Detail,
			Statement:   r.Statement,
			Document:    r.Document,
		}
	}
	return messages
}

// checkpointMessage returns a checkpoint, which is signed with the signing key.
func (s *Server) checkpointMessage(c audit.Checkpoint) *pb.Checkpoint {
	return &pb.Checkpoint{Statement: c.Statement, Key: s.signingKey}
}

// jwkJSON returns a key as a JSON Web Key.
func jwkJSON(key statement.JWK) (string, error) {
	b, err := json.Marshal(key)
	if err != nil {
		return "", fmt.Errorf("encoding a public key: %w", err)
	}
	return string(b), nil
}

// jwksJSON returns the key that signs grants as a JWK Set (RFC 7517, 5).
func jwksJSON(keyID string, key statement.JWK) (string, error) {
	type signingKey struct {
		Alg string `json:"alg"`
		Crv string `json:"crv"`
		Kid string `json:"kid"`
		Kty string `json:"kty"`
		Use string `json:"use"`
		X   string `json:"x"`
		Y   string `json:"y"`
	}
	b, err := json.Marshal(map[string][]signingKey{"keys": {{
		Alg: "ES256", Crv: key.Crv, Kid: keyID, Kty: key.Kty, Use: "sig", X: key.X, Y: key.Y,
	}}})
	if err != nil {
		return "", fmt.Errorf("encoding the signing key: %w", err)
	}
	return string(b), nil
}
