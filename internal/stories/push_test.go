package stories

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/server/apns/apnstest"
	"github.com/countersignd/countersign/server/webpush/webpushtest"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// pushes are a script's push services, which run in the test's process, and what is
// subscribed to them. A script has one or none of each.
type pushes struct {
	web           *webpushtest.Service
	subscriptions map[string]*webpushtest.Subscription
	apns          *apnstest.Server
	tokens        map[string]string // of programs on Apple's devices
	awaited       map[string]int    // how many of the pushes to each token were
}

// webPush starts a Web Push service. The server that is started afterwards trusts its
// certificate.
func (s *stage) webPush(ts *testscript.TestScript, _ []string) {
	s.web = webpushtest.New(s.env.T().(testing.TB), nil)
	s.subscriptions = map[string]*webpushtest.Subscription{}
	trust(ts, s.web.RootPEM())
}

func trust(ts *testscript.TestScript, roots []byte) {
	file := ts.MkAbs("push-roots.pem")
	ts.Check(os.WriteFile(file, roots, 0o600))
	ts.Setenv("SSL_CERT_FILE", file)
}

// subscribe subscribes a device with the key of a server, and sets ENDPOINT, P256DH
// and AUTH to what it must register there.
func (s *stage) subscribe(ts *testscript.TestScript, args []string) {
	key, err := base64.RawURLEncoding.DecodeString(args[1])
	ts.Check(err)
	sub := s.web.Subscribe(key)
	s.subscriptions[args[0]] = sub
	ts.Setenv("ENDPOINT", sub.Endpoint)
	ts.Setenv("P256DH", base64.RawURLEncoding.EncodeToString(sub.P256DH))
	ts.Setenv("AUTH", base64.RawURLEncoding.EncodeToString(sub.Auth))
}

// pushed waits for the next wake-up of a device that subscribed, which must say what
// is given and nothing else.
func (s *stage) pushed(ts *testscript.TestScript, args []string) {
	sub := s.subscriptions[args[0]]
	if sub == nil {
		ts.Fatalf("%s has not subscribed", args[0])
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	message, err := sub.Next(ctx)
	if err != nil {
		s.fatal(ts, "no wake-up came to %s; refused were %q", args[0], s.web.Refusals())
	}
	if got, want := string(message.Payload), fmt.Sprintf(`{"countersign":%q}`, args[1]); got != want {
		s.fatal(ts, "%s was sent %s, want %s", args[0], got, want)
	}
}

// requests waits until the Web Push service was asked for so many pushes in all, and
// refuses more.
func (s *stage) requests(ts *testscript.TestScript, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	for deadline := time.Now().Add(patience); s.web.Requests() < want && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if got := s.web.Requests(); got != want {
		s.fatal(ts, "the push service was asked %d times, want %d", got, want)
	}
}

// expire ends a subscription: the service answers 410 from now on.
func (s *stage) expire(_ *testscript.TestScript, args []string) {
	s.subscriptions[args[0]].Expire()
}

// answer has the Web Push service answer everything with a status, or nothing at all,
// or be itself again.
func (s *stage) answer(ts *testscript.TestScript, args []string) {
	switch args[0] {
	case "itself":
		s.web.SetAnswer(nil)
	case "nothing":
		s.web.SetAnswer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	default:
		status, err := strconv.Atoi(args[0])
		ts.Check(err)
		s.web.SetAnswer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
}

// startAPNs starts an APNs. It sets APNS to its address and writes the team's key to
// apns.p8, and to stranger.p8 one that the team was not given.
func (s *stage) startAPNs(ts *testscript.TestScript, _ []string) {
	t := s.env.T().(testing.TB)
	s.apns = apnstest.Start(t)
	s.tokens, s.awaited = map[string]string{}, map[string]int{}
	trust(ts, s.apns.RootsPEM())
	ts.Setenv("APNS", s.apns.URL)
	ts.Check(os.WriteFile(ts.MkAbs("apns.p8"), s.apns.KeyPEM(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("stranger.p8"), apnstest.Start(t).KeyPEM(), 0o600))
}

// registerAPNs does for the device in a directory what a program on Apple's devices
// does when it is opened: it registers the token that it got.
func (s *stage) registerAPNs(ts *testscript.TestScript, args []string) {
	token := s.apns.Device(apnstest.Topic)
	a, err := agent.Open(ts.MkAbs(args[1]), "")
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = a.RegisterPush(ctx, &pb.PushRegistration{Service: &pb.PushRegistration_Apns{Apns: &pb.ApnsRegistration{Token: token}}})
	ts.Check(err)
	s.tokens[args[0]] = token
}

// apnsPushed waits for the next push to a device, and compares its type, or the reason
// if APNs did not take it.
func (s *stage) apnsPushed(ts *testscript.TestScript, args []string) {
	token, came := s.tokens[args[0]], []string(nil)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		came = nil
		for _, p := range s.apns.Pushes() {
			if p.Status != 0 && p.Path == "/3/device/"+token {
				came = append(came, cmp.Or(p.Reason, p.Header.Get("apns-push-type")))
			}
		}
		if n := s.awaited[token]; n < len(came) {
			s.awaited[token]++
			if came[n] != args[1] {
				s.fatal(ts, "%s got %s, want %s", args[0], came[n], args[1])
			}
			return
		}
	}
	s.fatal(ts, "no push came to %s after %q", args[0], came)
}

// lose removes the program from an Apple device: APNs answers 410 from now on, and
// says that it is so since a number of seconds ago, or from then on if that is negative.
func (s *stage) lose(ts *testscript.TestScript, args []string) {
	ago, err := strconv.Atoi(args[1])
	ts.Check(err)
	s.apns.Lose(s.tokens[args[0]], "Unregistered", time.Now().Add(-time.Duration(ago)*time.Second))
}

// apnsAnswer has APNs refuse the next push.
func (s *stage) apnsAnswer(ts *testscript.TestScript, args []string) {
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	s.apns.Next(apnstest.Answer{Status: status, Reason: args[1]})
}
