package server_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/statement"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// What applications, devices and administrators are told of lanes and silences.
func TestLanesInTheAPI(t *testing.T) {
	system := countersigntest.New(t, nil)
	system.AddAccount("ada")
	mac := system.EnrollDevice("ada")
	files := system.AddApplication("files")
	begin := func(token, session string) *pb.SignIn {
		t.Helper()
		resp, err := files.Client.BeginSignIn(t.Context(), &pb.BeginSignInRequest{
			Account: "ada", Requester: &pb.Requester{Address: "2001:db8::7", Session: session, Token: token},
		})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetSignIn()
	}
	s := begin("", "first")
	if s.GetLane() != "unknown" || s.GetSilent() != "" {
		t.Errorf("the first sign-in is %q, silent %q, want unknown and ringing", s.GetLane(), s.GetSilent())
	}
	token := files.MustVerify(s.GetId(), mac.MustAllow(mac.MustPrompt(s.GetId()))).GetRequesterToken()
	s = begin(token, "second")
	if s.GetLane() != "known" || s.GetSilent() != "" {
		t.Errorf("with its token the requester is %q, silent %q, want known and ringing", s.GetLane(), s.GetSilent())
	}
	if got := s.GetRequester().GetToken(); got != "" || strings.Contains(system.Log(), token) {
		t.Errorf("the token comes back as %q, or is in the log", got)
	}

	stranger := begin("", "third")
	mac.MustDeny(mac.MustPrompt(stranger.GetId()), statement.NotMe)
	silent := begin("", "fourth")
	if silent.GetSilent() != "source" || !mac.MustPrompt(silent.GetId()).GetSilent() || mac.MustPrompt(s.GetId()).GetSilent() {
		t.Errorf("after this-wasn't-me the sign-in is silent because of %q, want source, on the device too", silent.GetSilent())
	}
	got, err := system.Admin.GetAccount(t.Context(), &pb.GetAccountRequest{Name: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	sources, rung := got.GetAccount().GetSilencedSources(), []int32{}
	for _, l := range got.GetAccount().GetLanes() {
		rung = append(rung, l.GetRung())
	}
	if len(sources) != 1 || sources[0].GetSource() != "2001:db8::/64" || !slices.Equal(rung, []int32{1, 2, 0}) {
		t.Errorf("the account has silenced %v and was rung %v, want 2001:db8::/64 and 1, 2, 0", sources, rung)
	}
	unlocked, err := system.Admin.UnlockAccount(t.Context(), &pb.UnlockAccountRequest{Name: "ada"})
	if err != nil || len(unlocked.GetAccount().GetSilencedSources()) != 0 || len(unlocked.GetAccount().GetLanes()) != 3 {
		t.Errorf("UnlockAccount = %v, %v, want nothing silenced", unlocked, err)
	}
}
