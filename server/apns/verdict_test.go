package apns_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/server/apns/apnstest"
	"github.com/countersignd/countersign/server/approval"
)

// What follows from each of Apple's answers.
func TestReactions(t *testing.T) {
	s, w, to := start(t)
	since := time.UnixMilli(1_763_000_000_123)
	minute := http.Header{"Retry-After": {"60"}}
	for _, test := range []struct {
		answer apnstest.Answer
		want   approval.WakeVerdict
		after  time.Duration
	}{
		{apnstest.Answer{Status: 410, Reason: "Unregistered", Timestamp: since}, approval.WakeDead, 0},
		{apnstest.Answer{Status: 410, Reason: "ExpiredToken", Timestamp: since}, approval.WakeDead, 0},
		{apnstest.Answer{Status: 410, Reason: "Unregistered"}, approval.WakeDead, 0},
		{apnstest.Answer{Status: 410, Reason: "SomethingNew", Timestamp: since}, approval.WakeDead, 0},
		{apnstest.Answer{Status: 400, Reason: "BadDeviceToken"}, approval.WakeDead, 0},
		{apnstest.Answer{Status: 400, Reason: "DeviceTokenNotForTopic"}, approval.WakeRefused, 0},

		{apnstest.Answer{Status: 403, Reason: "InvalidProviderToken"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "MissingProviderToken"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "BadCertificate"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "BadCertificateEnvironment"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "UnrelatedKeyIdInToken"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "BadEnvironmentKeyIdInToken"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "BadEnvironmentKeyInToken"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "Forbidden"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 403, Reason: "SomethingNew"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 400, Reason: "TopicDisallowed"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 400, Reason: "BadTopic"}, approval.WakeBroken, 0},
		{apnstest.Answer{Status: 400, Reason: "MissingTopic"}, approval.WakeBroken, 0},

		{apnstest.Answer{Status: 429, Reason: "TooManyRequests"}, approval.WakeLater, 0},
		{apnstest.Answer{Status: 429, Reason: "TooManyRequests", Header: minute}, approval.WakeLater, time.Minute},
		{apnstest.Answer{Status: 429, Reason: "TooManyProviderTokenUpdates"}, approval.WakeLater, 0},
		{apnstest.Answer{Status: 429, Reason: "SomethingNew"}, approval.WakeLater, 0},
		{apnstest.Answer{Status: 400, Reason: "IdleTimeout"}, approval.WakeLater, 0},
		{apnstest.Answer{Status: 500, Reason: "InternalServerError"}, approval.WakeLater, 0},
		{apnstest.Answer{Status: 503, Reason: "ServiceUnavailable", Header: minute}, approval.WakeLater, time.Minute},
		{apnstest.Answer{Status: 503, Reason: "Shutdown"}, approval.WakeLater, 0},

		{apnstest.Answer{Status: 400, Reason: "BadCollapseId", Header: minute}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "BadExpirationDate"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "BadMessageId"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "BadPriority"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "DuplicateHeaders"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "InvalidPushType"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "PayloadEmpty"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 400, Reason: "SomethingNew"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 404, Reason: "BadPath"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 405, Reason: "MethodNotAllowed"}, approval.WakeRefused, 0},
		{apnstest.Answer{Status: 413, Reason: "PayloadTooLarge"}, approval.WakeRefused, 0},
	} {
		t.Run(test.answer.Reason, func(t *testing.T) {
			s.Next(test.answer)
			before := len(s.Pushes())
			got := refusal(t, w.Wake(t.Context(), to, wakeup()))
			if got.Verdict != test.want || got.Why != "APNs: "+test.answer.Reason || got.After != test.after {
				t.Errorf("Wake = %v, verdict %d after %v, want %d after %v", got, got.Verdict, got.After, test.want, test.after)
			}
			if !got.Since.Equal(test.answer.Timestamp) {
				t.Errorf("since %v, want %v", got.Since, test.answer.Timestamp)
			}
			if got.Verdict == approval.WakeBroken && got.Advice == "" && !strings.HasSuffix(got.Why, "SomethingNew") {
				t.Errorf("Wake = %v, which does not say what to do", got)
			}
			if got := len(s.Pushes()) - before; got != 1 {
				t.Errorf("%d tries, want one", got)
			}
		})
	}
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Errorf("Wake after all that = %v", err)
	}
}

// What the fake itself says of devices, and not by script.
func TestLostDevices(t *testing.T) {
	s, w, to := start(t)
	since := time.UnixMilli(1_763_000_000_123)
	s.Lose(to.Token, "Unregistered", since)
	if got := refusal(t, w.Wake(t.Context(), to, wakeup())); got.Verdict != approval.WakeDead || !got.Since.Equal(since) {
		t.Errorf("Wake = %v, verdict %d since %v", got, got.Verdict, got.Since)
	}
	other := approval.PushAddress{Token: s.Device(apnstest.Other)}
	if got := refusal(t, w.Wake(t.Context(), other, wakeup())); got.Verdict != approval.WakeRefused || got.Advice == "" {
		t.Errorf("Wake of another program's device = %v, verdict %d", got, got.Verdict)
	}
	nobody := approval.PushAddress{Token: strings.Repeat("ab", 32)}
	if got := refusal(t, w.Wake(t.Context(), nobody, wakeup())); got.Verdict != approval.WakeDead {
		t.Errorf("Wake of nobody = %v, verdict %d", got, got.Verdict)
	}
}

// Apns2 forgets the status of an answer that is not JSON as it expects it.
func TestAnswerThatIsNoJSONKeepsItsStatus(t *testing.T) {
	s, w, to := start(t)
	hostile := strings.Repeat("x", 65)
	for _, test := range []struct {
		status int
		body   string
		want   approval.WakeVerdict
		why    string
	}{
		{500, "<html>oops</html>", approval.WakeLater, "APNs: status 500 without a reason"},
		{502, "", approval.WakeLater, "APNs: status 502 without a reason"},
		{503, strings.Repeat("long ", 1<<20), approval.WakeLater, "APNs: status 503 without a reason"},
		{500, `{"reason":"InternalServerError","x":"` + strings.Repeat("x", 4<<10) + `"}`, approval.WakeLater, "APNs: status 500 without a reason"},
		{429, "slow down", approval.WakeLater, "APNs: status 429 without a reason"},
		{403, "no", approval.WakeBroken, "APNs: status 403 without a reason"},
		{410, `{"reason":"Unregistered","timestamp":"yesterday"}`, approval.WakeDead, "APNs: status 410 without a reason"},
		{410, `{"reason":"Unregistered","timestamp":-1}`, approval.WakeDead, "APNs: Unregistered"},
		{400, `{"reason":"BadDevice`, approval.WakeRefused, "APNs: status 400 without a reason"},
		{400, `{"reason":"` + hostile + `"}`, approval.WakeRefused, "APNs: status 400 without a reason"},
		{400, `{"reason":"<b>\u202e"}`, approval.WakeRefused, "APNs: status 400 without a reason"},
		{400, `[]`, approval.WakeRefused, "APNs: status 400 without a reason"},
	} {
		if test.body == "" {
			test.body = " "
		}
		s.Next(apnstest.Answer{Status: test.status, Body: test.body})
		got := refusal(t, w.Wake(t.Context(), to, wakeup()))
		if got.Verdict != test.want || got.Why != test.why || !got.Since.IsZero() {
			t.Errorf("Wake(%d %.40s) = %v, verdict %d, want %s, %d", test.status, test.body, got, got.Verdict, test.why, test.want)
		}
	}
	s.Next(apnstest.Answer{Status: 200, Body: "taken"})
	if err := w.Wake(t.Context(), to, wakeup()); err != nil {
		t.Errorf("Wake = %v", err)
	}
}
