package metrics_test

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/countersignd/countersign/internal/countersigntest"
	"github.com/countersignd/countersign/internal/invitation"
	"github.com/countersignd/countersign/internal/statement"
	"github.com/countersignd/countersign/server"
	"github.com/countersignd/countersign/server/approval"
	"github.com/countersignd/countersign/server/metrics"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A scraped is a System with its metrics, as somebody sees them who asks by HTTP.
type scraped struct {
	*countersigntest.System
	t       *testing.T
	metrics *metrics.Metrics
	url     string
}

func newScraped(t *testing.T) *scraped {
	t.Helper()
	m := metrics.New("v1.2.3")
	s := &scraped{t: t, metrics: m}
	s.System = countersigntest.New(t, &countersigntest.Options{Observe: m.Observe(), Called: m.Called})
	m.Watch(func() time.Time { return s.Broker.Now() }, func() metrics.State {
		size, err := s.Broker.RecordSize(t.Context())
		if err != nil {
			t.Error(err)
		}
		return metrics.State{
			ConnectedDevices: s.Broker.ConnectedDevices(), Load: s.Server.Load(), StoreSize: 1, RecordSize: size,
			Disk: server.Disk{Free: 1 << 30, Ballast: true}, Restored: s.Broker.Restored(), CertificateExpires: time.Unix(4102444800, 0),
		}
	})
	s.url = serve(t, m, func() metrics.Readiness { return metrics.Readiness{Ready: true, Words: "ready"} })
	return s
}

func serve(t *testing.T, m *metrics.Metrics, ready func() metrics.Readiness) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Serve(l, ready, slog.New(slog.DiscardHandler)))
	return "http://" + l.Addr().String()
}

// scrape returns all samples, by name and labels.
func (s *scraped) scrape() (text string, samples map[string]string) {
	s.t.Helper()
	resp, err := http.Get(s.url + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("GET /metrics = %s, %v:\n%s", resp.Status, err, body)
	}
	samples = map[string]string{}
	for line := range strings.Lines(string(body)) {
		if name, value, ok := cutLast(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			samples[name] = value
		}
	}
	return string(body), samples
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// eventually scrapes until a sample has a value: what is told of when a call is
// over comes a moment after its answer.
func (s *scraped) eventually(name, want string) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, samples := s.scrape()
		if samples[name] == want {
			return
		}
		if time.Now().After(deadline) {
			s.t.Errorf("%s = %q, want %s", name, samples[name], want)
			return
		}
	}
}

// play has happen what happens: sign-ins that are verified, denied and called off,
// wrong codes, strangers, refusals. It returns what was secret in it, or personal.
func (s *scraped) play(account string) map[string]string {
	t := s.t
	s.AddAccount(account)
	link := s.Invite(account)
	inv, err := invitation.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	phone := s.NewDevice()
	if err := phone.Enroll(t.Context(), link); err != nil {
		t.Fatal(err)
	}
	app := s.AddApplication("books-" + account)
	signIn := app.MustBegin(account)
	prompt := phone.MustPrompt(signIn.GetId())
	signed, err := phone.Decision(prompt, statement.Allow, "")
	if err != nil {
		t.Fatal(err)
	}
	decided, err := phone.Client.DecideSignIn(t.Context(), &pb.DecideSignInRequest{Statement: signed})
	if err != nil {
		t.Fatal(err)
	}
	guess := "123456"
	if decided.GetCode() == guess {
		guess = "654321"
	}
	if _, err := app.Verify(t.Context(), signIn.GetId(), guess); countersigntest.Reason(err) != "CODE_WRONG" {
		t.Fatalf("verifying a guess = %v", err)
	}
	verified := app.MustVerify(signIn.GetId(), decided.GetCode())
	denied := app.MustBegin(account)
	phone.MustDeny(phone.MustPrompt(denied.GetId()), statement.NotMe)
	requested, err := phone.CreateCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	app.MustVerify(denied.GetId(), requested)
	const password = "hunter2-is-my-password"
	conn := s.Dial(nil, grpc.WithPerRPCCredentials(countersigntest.Bearer(password)))
	thief := pb.NewSignInServiceClient(conn)
	thief.BeginSignIn(t.Context(), &pb.BeginSignInRequest{Account: password})
	thief.VerifySignIn(t.Context(), &pb.VerifySignInRequest{SignInId: password, Code: password})
	conn.Invoke(t.Context(), "/countersign.v1.SignInService/"+password, &pb.BeginSignInRequest{}, &pb.BeginSignInResponse{})
	s.Admin.AddAccount(t.Context(), &pb.AddAccountRequest{Name: password + "!"})
	phone.Client.DecideSignIn(t.Context(), &pb.DecideSignInRequest{Statement: password})
	phone.MustWatch()
	return map[string]string{
		"the account":             account,
		"the invitation's token":  inv.Token,
		"the application":         app.ID,
		"the application's token": app.Token,
		"the sign-in":             signIn.GetId(),
		"the code":                decided.GetCode(),
		"the code asked for":      requested,
		"the guess":               guess,
		"the grant":               verified.GetGrant(),
		"a signature":             signed[strings.LastIndex(signed, ".")+1:],
		"a password":              password,
		"a caller's address":      "127.0.0.1",
		"the requester's address": "192.0.2.7",
		"the requester's place":   "Berlin",
		"the requester's device":  "MacBook",
		"the device":              phone.ID,
		"the device's name":       "Test device",
		"the administrator":       "uid ",
	}
}

// A15: what must not be in a log is in no metric either.
func TestA15MetricsHoldNoSecret(t *testing.T) {
	s := newScraped(t)
	secrets := s.play("adalovelace")
	s.eventually(`countersign_calls_total{code="Unimplemented",method="other"}`, "1")
	text, _ := s.scrape()
	for name, secret := range secrets {
		found := strings.Count(text, secret)
		if regexp.MustCompile(`^\d+$`).MatchString(secret) { // digits may be part of a number
			found = len(regexp.MustCompile(`["/ ]`+secret+`["/\n]`).FindAllString(text, -1))
		}
		if found != 0 {
			t.Errorf("%s is in the metrics %d times, want 0", name, found)
		}
	}
}

// What an operator sees of it.
func TestMetricsOfAStory(t *testing.T) {
	s := newScraped(t)
	s.play("ada")
	for name, want := range map[string]string{
		`countersign_sign_ins_begun_total{lane="unknown",silent="no"}`:                         "2",
		`countersign_sign_ins_begun_total{lane="known",silent="no"}`:                           "0",
		`countersign_sign_ins_ended_total{cause="",lane="unknown",outcome="verified"}`:         "2",
		`countersign_sign_ins_ended_total{cause="",lane="unknown",outcome="denied"}`:           "1",
		`countersign_sign_ins_open{state="pending"}`:                                           "0",
		`countersign_sign_ins_open{state="approved"}`:                                          "0",
		`countersign_decisions_total{decision="allow"}`:                                        "1",
		`countersign_decisions_total{decision="deny"}`:                                         "1",
		`countersign_deny_reasons_total{reason="not_me"}`:                                      "1",
		`countersign_verifications_total{code="code"}`:                                         "1",
		`countersign_verifications_total{code="requested"}`:                                    "1",
		`countersign_verifications_total{code="offline"}`:                                      "0",
		`countersign_codes_wrong_total`:                                                        "1",
		`countersign_records_total{event="account.source_silenced"}`:                           "1",
		`countersign_records_total{event="other"}`:                                             "",
		`countersign_pushes_total{outcome="dead",service="apns"}`:                              "0",
		`countersign_calls_total{code="OK",method="SignInService/BeginSignIn"}`:                "2",
		`countersign_calls_total{code="PermissionDenied",method="SignInService/VerifySignIn"}`: "1",
		`countersign_calls_total{code="Unimplemented",method="other"}`:                         "1",
		`countersign_refusals_total{reason="CODE_WRONG"}`:                                      "1",
		`countersign_call_duration_seconds_count{method="SignInService/BeginSignIn"}`:          "3", // one without a good token
		`countersign_call_duration_seconds_count{method="DeviceService/WatchPrompts"}`:         "",
		`countersign_streams_open{method="DeviceService/WatchPrompts"}`:                        "1",
		`countersign_streams_open{method="SignInService/WatchSignIn"}`:                         "0",
		`countersign_devices_connected`:                                                        "1",
		`countersign_connections{kind="device"}`:                                               "1",
		`countersign_connections{kind="application"}`:                                          "1",
		`countersign_disk_free_bytes`:                                                          "1.073741824e+09",
		`countersign_disk_low`:                                                                 "0",
		`countersign_disk_ballast`:                                                             "1",
		`countersign_restored_timestamp_seconds`:                                               "0",
		`countersign_tls_certificate_expiry_timestamp_seconds`:                                 "4.1024448e+09",
		`countersign_build_info{version="v1.2.3"}`:                                             "1",
	} {
		s.eventually(name, want)
	}
	size, err := s.Broker.RecordSize(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.eventually("countersign_record_entries", fmt.Sprint(size))
	s.AddApplication("more").MustBegin("ada")
	s.eventually(`countersign_sign_ins_open{state="pending"}`, "1")
	s.eventually(`countersign_sign_ins_begun_total{lane="unknown",silent="source"}`, "1")
	s.Suspend("ada")
	s.eventually(`countersign_sign_ins_ended_total{cause="account_suspended",lane="unknown",outcome="cancelled"}`, "1")
	s.eventually(`countersign_sign_ins_open{state="pending"}`, "0")
}

// How many series there are does not depend on how many people there are.
func TestSeriesAreBounded(t *testing.T) {
	s := newScraped(t)
	s.play("ada")
	s.eventually(`countersign_calls_total{code="Unimplemented",method="other"}`, "1")
	_, one := s.scrape()
	for i := range 5 {
		s.play(fmt.Sprintf("person%d", i))
	}
	s.eventually(`countersign_calls_total{code="Unimplemented",method="other"}`, "6")
	_, many := s.scrape()
	names := func(of map[string]string) []string {
		return slices.Sorted(maps.Keys(maps.Collect(func(yield func(string, bool) bool) {
			for name := range of {
				if strings.HasPrefix(name, "countersign_") && !yield(name, true) {
					return
				}
			}
		})))
	}
	if a, b := names(one), names(many); !slices.Equal(a, b) {
		t.Errorf("one account makes %d series, six make %d", len(a), len(b))
	}
	labels := map[string]bool{}
	for name := range many {
		for _, m := range regexp.MustCompile(`[{,](\w+)="`).FindAllStringSubmatch(name, -1) {
			labels[m[1]] = true
		}
	}
	want := []string{"cause", "code", "decision", "event", "kind", "lane", "le", "method", "outcome", "quantile", "reason", "service", "silent", "stage", "state", "version"}
	if got := slices.Sorted(maps.Keys(labels)); !slices.Equal(got, want) {
		t.Errorf("the labels are %q, want %q", got, want)
	}
}

// What is not in a list of the program is counted, but not named.
func TestWordsThatAreNotKnown(t *testing.T) {
	s := newScraped(t)
	observe := s.metrics.Observe()
	observe.Push("https://push.example.org/secret", "no such outcome")
	observe.Recorded(approval.Observation{Event: "hunter2"})
	observe.Recorded(approval.Observation{Event: approval.EventSignInBegun, SignIn: "hunter2", Lane: "hunter2", Silent: "hunter2"})
	observe.Recorded(approval.Observation{Event: approval.EventSignInCancelled, SignIn: "hunter2", Lane: "hunter2", Cause: "hunter2"})
	observe.Recorded(approval.Observation{Event: approval.EventSignInVerified, Code: "hunter2"})
	observe.Recorded(approval.Observation{Event: approval.EventSignInDenied, Reason: "hunter2"})
	text, samples := s.scrape()
	if strings.Contains(text, "hunter2") || strings.Contains(text, "example.org") {
		t.Errorf("a word that is in no list is in the metrics:\n%s", text)
	}
	for _, name := range []string{
		`countersign_pushes_total{outcome="other",service="other"}`,
		`countersign_records_total{event="other"}`,
		`countersign_sign_ins_begun_total{lane="other",silent="other"}`,
		`countersign_sign_ins_ended_total{cause="other",lane="other",outcome="cancelled"}`,
		`countersign_verifications_total{code="other"}`,
		`countersign_deny_reasons_total{reason="other"}`,
	} {
		if samples[name] != "1" {
			t.Errorf("%s = %q, want 1", name, samples[name])
		}
	}
}

// TestCommits counts what a store tells.
func TestCommits(t *testing.T) {
	s := newScraped(t)
	s.metrics.Committed(3*time.Millisecond, 5, nil)
	s.metrics.Committed(3*time.Hour, 1, io.ErrShortWrite)
	_, samples := s.scrape()
	for name, want := range map[string]string{
		`countersign_store_commit_duration_seconds_count`:               "1",
		`countersign_store_commit_duration_seconds_bucket{le="0.0025"}`: "0",
		`countersign_store_commit_duration_seconds_bucket{le="0.005"}`:  "1",
		`countersign_store_commit_operations_bucket{le="4"}`:            "0",
		`countersign_store_commit_operations_bucket{le="8"}`:            "1",
		`countersign_store_commit_failures_total`:                       "1",
	} {
		if samples[name] != want {
			t.Errorf("%s = %q, want %s", name, samples[name], want)
		}
	}
}

// promtool is Prometheus's own linter, which make test-packages brings.
const promtool = "../../.tools/promtool"

// TestPromtool has names, units and help texts checked by Prometheus's own linter.
func TestPromtool(t *testing.T) {
	s := newScraped(t)
	s.play("ada")
	text, _ := s.scrape()
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s\nWithout promtool, run  make .tools/promtool.", err, out)
	}
	cmd = exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(text, "countersign_codes_wrong_total", "countersign_codes_wrong_count"))
	if _, err := cmd.CombinedOutput(); err == nil {
		t.Error("promtool finds nothing in a counter that has a bad name")
	}
}

// Every metric of ours is explained in docs/service.md, and nothing else is; alerts
// are about metrics and events that there are.
func TestEveryMetricIsExplained(t *testing.T) {
	s := newScraped(t)
	s.play("ada")
	text, _ := s.scrape()
	have := map[string]bool{"countersign_push_queue_length": true, "countersign_push_service_broken": true} // without a push service there is none
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (countersign_\w+) `).FindAllStringSubmatch(text, -1) {
		have[m[1]] = true
	}
	page, err := os.ReadFile("../../docs/service.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(countersign_\\w+)` \\|").FindAllStringSubmatch(string(page), -1) {
		explained[m[1]] = true
	}
	if a, b := slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(explained)); !slices.Equal(a, b) {
		t.Errorf("the metrics are\n%q\nand docs/service.md explains\n%q", a, b)
	}
	const alerts = "../packaging/countersign-alerts.yml"
	rules, err := os.ReadFile(alerts)
	if err != nil {
		t.Fatal(err)
	}
	used := regexp.MustCompile(`countersign_\w+`).FindAllString(string(rules), -1)
	if len(used) == 0 {
		t.Error("no alert is about a metric")
	}
	for _, name := range used {
		if !have[strings.TrimSuffix(name, "_bucket")] {
			t.Errorf("an alert is about %s, which does not exist", name)
		}
	}
	for _, m := range regexp.MustCompile(`event="([^"]+)"`).FindAllStringSubmatch(string(rules), -1) {
		if !slices.Contains(approval.Events(), approval.Event(m[1])) {
			t.Errorf("an alert is about the event %s, which does not exist", m[1])
		}
	}
	if out, err := exec.Command(promtool, "check", "rules", alerts).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
}
