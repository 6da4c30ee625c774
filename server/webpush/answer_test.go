package webpush

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersignd/countersign/server/approval"
)

// Every status there is has a verdict, and none breaks the service for others.
func TestVerdicts(t *testing.T) {
	const none = approval.WakeVerdict(-1)
	special := map[int]approval.WakeVerdict{
		200: none, 201: none, 202: none, 204: none,
		404: approval.WakeDead, 410: approval.WakeDead,
		408: approval.WakeLater, 425: approval.WakeLater, 429: approval.WakeLater,
	}
	for status := 100; status < 600; status++ {
		want, ok := special[status]
		switch {
		case ok:
		case status >= 500:
			want = approval.WakeLater
		default:
			want = approval.WakeRefused
		}
		resp := &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {"30"}, "Location": {"https://127.0.0.1/secret"}}}
		got, why := none, ""
		if err := judge("push.example.net", resp, time.Now()); err != nil {
			wake, ok := errors.AsType[*approval.WakeError](err)
			if !ok {
				t.Fatalf("judge of %d = %T, want a WakeError", status, err)
			}
			got, why = wake.Verdict, wake.Why
			if later := wake.After == 30*time.Second; later != (status == 429 || status == 408 || status == 425 || status >= 500) {
				t.Errorf("judge of %d says to wait %v", status, wake.After)
			}
			if !strings.HasPrefix(why, "Web Push: ") || !strings.Contains(why, " from push.example.net: ") || strings.Contains(why, "secret") || len(why) > 140 {
				t.Errorf("judge of %d says %q", status, why)
			}
		}
		if got != want {
			t.Errorf("judge of %d = %v (%s), want %v", status, got, why, want)
		}
	}
}

var retryAfterTests = []struct {
	header string
	want   time.Duration
}{
	{"", 0}, {"0", 0}, {"1", time.Second}, {"0120", 2 * time.Minute}, {"3600", time.Hour}, {"3601", time.Hour},
	{"99999999999999999999999", time.Hour}, {"-1", 0}, {"+1", 0}, {"1.5", 0}, {" 1", 0}, {"soon", 0}, {"１", 0},
	{"Fri, 15 Jan 2027 08:01:00 GMT", time.Minute},
	{"Friday, 15-Jan-27 08:01:00 GMT", time.Minute},
	{"Fri Jan 15 08:01:00 2027", time.Minute},
	{"Fri, 15 Jan 2027 08:00:00 GMT", 0},
	{"Fri, 15 Jan 2021 08:00:00 GMT", 0},
	{"Fri, 15 Jan 2038 08:00:00 GMT", time.Hour},
	{"Fri, 15 Jan 2027 08:01:00 +0000", 0},
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)
	for _, test := range retryAfterTests {
		if got := retryAfter(test.header, now); got != test.want {
			t.Errorf("retryAfter(%q) = %v, want %v", test.header, got, test.want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, test := range retryAfterTests {
		f.Add(test.header)
	}
	now := time.Date(2027, 1, 15, 8, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, header string) {
		if got := retryAfter(header, now); got < 0 || got > maxAfter {
			t.Errorf("retryAfter(%q) = %v, want 0 to %v", header, got, maxAfter)
		}
	})
}
