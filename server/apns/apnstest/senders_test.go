package apnstest_test

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sideshow/apns2"
	"github.com/sideshow/apns2/payload"
	"github.com/sideshow/apns2/token"

	"github.com/countersignd/countersign/server/apns/apnstest"
)

// Apns2, used as its documentation shows, finds this server to be an APNs: what it
// sends well is taken, and what it sends badly is refused as it expects.
func TestForeignSenderAPNS2(t *testing.T) {
	s := apnstest.Start(t)
	key, err := token.AuthKeyFromBytes(s.KeyPEM())
	if err != nil {
		t.Fatal(err)
	}
	client := apns2.NewTokenClient(&token.Token{AuthKey: key, KeyID: apnstest.KeyID, TeamID: apnstest.Team})
	client.Host = s.URL
	client.HTTPClient.Transport = &http.Transport{TLSClientConfig: clientTLS(s), ForceAttemptHTTP2: true}
	device, lost := s.Device(apnstest.Topic), s.Device(apnstest.Topic)
	gone := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	s.Lose(lost, "Unregistered", gone)
	alert := payload.NewPayload().Alert("Hello").Badge(1)
	background := payload.NewPayload().ContentAvailable()
	tests := []struct {
		name   string
		n      apns2.Notification
		status int
		reason string
	}{
		{"alert", apns2.Notification{DeviceToken: device, Topic: apnstest.Topic, Payload: alert}, 200, ""},
		{"alert with everything", apns2.Notification{
			DeviceToken: device, Topic: apnstest.Topic, Payload: alert, ApnsID: "123e4567-e89b-12d3-a456-426655440000",
			CollapseID: strings.Repeat("x", 64), Priority: apns2.PriorityHigh, Expiration: time.Now().Add(time.Minute),
		}, 200, ""},
		{"background", apns2.Notification{
			DeviceToken: device, Topic: apnstest.Topic, Payload: background, PushType: apns2.PushTypeBackground, Priority: apns2.PriorityLow,
		}, 200, ""},
		{"background at once", apns2.Notification{
			DeviceToken: device, Topic: apnstest.Topic, Payload: background, PushType: apns2.PushTypeBackground, Priority: apns2.PriorityHigh,
		}, 400, apns2.ReasonBadPriority},
		{"background with an alert", apns2.Notification{
			DeviceToken: device, Topic: apnstest.Topic, Payload: alert, PushType: apns2.PushTypeBackground, Priority: apns2.PriorityLow,
		}, 400, apns2.ReasonInvalidPushType},
		{"no topic", apns2.Notification{DeviceToken: device, Payload: alert}, 400, apns2.ReasonMissingTopic},
		{"another's topic", apns2.Notification{DeviceToken: device, Topic: "org.example.stranger", Payload: alert}, 400, apns2.ReasonTopicDisallowed},
		{"the team's other topic", apns2.Notification{DeviceToken: device, Topic: apnstest.Other, Payload: alert}, 400, apns2.ReasonDeviceTokenNotForTopic},
		{"unknown device", apns2.Notification{DeviceToken: strings.Repeat("0", 64), Topic: apnstest.Topic, Payload: alert}, 400, apns2.ReasonBadDeviceToken},
		{"no device", apns2.Notification{Topic: apnstest.Topic, Payload: alert}, 400, apns2.ReasonMissingDeviceToken},
		{"lost device", apns2.Notification{DeviceToken: lost, Topic: apnstest.Topic, Payload: alert}, 410, apns2.ReasonUnregistered},
		{"long collapse id", apns2.Notification{DeviceToken: device, Topic: apnstest.Topic, Payload: alert, CollapseID: strings.Repeat("x", 65)}, 400, apns2.ReasonBadCollapseID},
		{"bad id", apns2.Notification{DeviceToken: device, Topic: apnstest.Topic, Payload: alert, ApnsID: "1"}, 400, apns2.ReasonBadMessageID},
		{"long payload", apns2.Notification{DeviceToken: device, Topic: apnstest.Topic, Payload: payload.NewPayload().Alert(strings.Repeat("x", 4096))}, 413, apns2.ReasonPayloadTooLarge},
		{"empty payload", apns2.Notification{DeviceToken: device, Topic: apnstest.Topic, Payload: map[string]any{}}, 400, apns2.ReasonPayloadEmpty},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := client.PushWithContext(t.Context(), &test.n)
			if err != nil || got.StatusCode != test.status || got.Reason != test.reason {
				t.Fatalf("Push = %+v, %v, want %d %s", got, err, test.status, test.reason)
			}
			if want := test.n.ApnsID; len(want) == 36 && got.ApnsID != want || len(got.ApnsID) != 36 {
				t.Errorf("apns-id = %q, want %q", got.ApnsID, want)
			}
			if test.status == 410 && !got.Timestamp.Equal(gone) {
				t.Errorf("timestamp = %v, want %v", got.Timestamp, gone)
			}
		})
	}
}

// So does the most used sender of Node, which make .tools/apns-sender installs.
func TestForeignSenderNode(t *testing.T) {
	s := apnstest.Start(t)
	device, lost := s.Device(apnstest.Topic), s.Device(apnstest.Topic)
	s.Lose(lost, "ExpiredToken", time.Now())
	type notification map[string]any
	type push struct {
		Name         string       `json:"-"`
		Want         string       `json:"-"` // a reason, or empty
		Token        string       `json:"token"`
		KeyID        string       `json:"keyId,omitempty"`
		Team         string       `json:"teamId,omitempty"`
		Notification notification `json:"notification"`
	}
	good := func(with notification) notification {
		n := notification{"topic": apnstest.Topic, "pushType": "alert", "alert": "Hello", "expiry": time.Now().Add(time.Minute).Unix()}
		for key, value := range with {
			n[key] = value
		}
		return n
	}
	background := notification{"topic": apnstest.Topic, "pushType": "background", "priority": 5, "contentAvailable": true}
	pushes := []push{
		{Name: "alert", Token: device, Notification: good(nil)},
		{Name: "alert with everything", Token: device, Notification: good(notification{
			"id": "123e4567-e89b-12d3-a456-426655440000", "collapseId": "x", "priority": 10, "mutableContent": true, "interruptionLevel": "time-sensitive"})},
		{Name: "background", Token: device, Notification: background},
		{Name: "no topic", Want: "MissingTopic", Token: device, Notification: good(notification{"topic": ""})},
		{Name: "another's topic", Want: "TopicDisallowed", Token: device, Notification: good(notification{"topic": "org.example.stranger"})},
		{Name: "other topic", Want: "DeviceTokenNotForTopic", Token: device, Notification: good(notification{"topic": apnstest.Other})},
		{Name: "no type", Want: "InvalidPushType", Token: device, Notification: good(notification{"pushType": ""})},
		{Name: "background with an alert", Want: "InvalidPushType", Token: device, Notification: good(notification{"pushType": "background", "priority": 5})},
		{Name: "no such priority", Want: "BadPriority", Token: device, Notification: good(notification{"priority": 7})},
		{Name: "long collapse id", Want: "BadCollapseId", Token: device, Notification: good(notification{"collapseId": strings.Repeat("x", 65)})},
		{Name: "bad id", Want: "BadMessageId", Token: device, Notification: good(notification{"id": "1"})},
		{Name: "long payload", Want: "PayloadTooLarge", Token: device, Notification: good(notification{"alert": strings.Repeat("x", 4096)})},
		{Name: "empty payload", Want: "PayloadEmpty", Token: device, Notification: notification{"topic": apnstest.Topic, "pushType": "alert"}},
		{Name: "no alert", Want: "InvalidPushType", Token: device, Notification: good(notification{"alert": nil})},
		{Name: "unknown device", Want: "BadDeviceToken", Token: strings.Repeat("0", 64), Notification: good(nil)},
		{Name: "no hexadecimal", Want: "BadDeviceToken", Token: "xyz", Notification: good(nil)},
		{Name: "another path", Want: "BadPath", Token: device + "/x", Notification: good(nil)},
		{Name: "lost device", Want: "ExpiredToken", Token: lost, Notification: good(nil)},
		{Name: "another key", Want: "InvalidProviderToken", Token: device, KeyID: "XYZXYZXYZX", Notification: good(nil)},
		{Name: "another team", Want: "InvalidProviderToken", Token: device, Team: "XYZXYZXYZX", Notification: good(nil)},
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	input, err := json.Marshal(map[string]any{
		"port": number, "ca": string(s.RootsPEM()), "key": string(s.KeyPEM()),
		"keyId": apnstest.KeyID, "teamId": apnstest.Team, "pushes": pushes,
	})
	if err != nil {
		t.Fatal(err)
	}
	modules, err := filepath.Abs("../../../.tools/apns-sender/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		t.Fatalf("the foreign sender is not there: run  make .tools/apns-sender  first: %v", err)
	}
	node := exec.CommandContext(t.Context(), "node", "testdata/send.js")
	node.Env = append(os.Environ(), "NODE_PATH="+modules)
	node.Stdin = bytes.NewReader(input)
	var complaints bytes.Buffer
	node.Stderr = &complaints
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, &complaints)
	}
	var said []string
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatalf("node printed %q: %v", out, err)
	}
	got, want := map[string]string{}, map[string]string{}
	for i, push := range pushes {
		want[push.Name] = push.Want
		if i < len(said) {
			got[push.Name] = said[i]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(said) != len(pushes) {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
	for _, p := range s.Taken() {
		if p.Status != http.StatusOK || p.Proto != "HTTP/2.0" {
			t.Errorf("a push was taken as %s with %d", p.Proto, p.Status)
		}
	}
	if got := len(s.Taken()); got != 3 {
		t.Errorf("%d pushes were taken, want 3", got)
	}
}
