package apns

import (
	"net/http"
	"regexp"
	"strconv"

	"github.com/sideshow/apns2"

	"github.com/countersignd/countersign/server/approval"
)

// plainWord is what a reason of APNs looks like. Anything else is not repeated to
// people.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// What apns2 has no names for yet.
const (
	reasonUnrelatedKeyID      = "UnrelatedKeyIdInToken"
	reasonBadEnvironmentKeyID = "BadEnvironmentKeyIdInToken"
	reasonBadEnvironmentKey   = "BadEnvironmentKeyInToken" // as it was seen in answers
)

// A reaction is what follows from a reason, and what an administrator can do.
type reaction struct {
	verdict approval.WakeVerdict
	advice  string
}

const (
	checkKey = "APNs does not know this key, key id and team together, or the key was revoked: compare them with Apple's list of keys"
	// Both lie in the settings and on the device, and nobody can tell from here.
	checkEnvironment = "if devices that were just registered are refused too, the environment in the settings is not that of the program: " +
		"sandbox is for what Xcode installs"
	checkTopic = "the program on the device has another bundle ID than the topic in the settings: correct the topic if it is so for every device"
	ourTopic   = "the topic in the settings is not the bundle ID of a program of this team with push notifications"
	ourKeysEnv = "the key is for the other environment, or for another program: correct the environment, or make a key for both"
	checkClock = "a new token is too old as well, so this machine's clock is wrong: set it"
)

// reactions are Apple's reasons, but those that follow from their status alone:
// "Handling notification responses from APNs". DeviceTokenNotForTopic drops no
// registration, since with a wrong topic in the settings it would be every one.
var reactions = map[string]reaction{
	apns2.ReasonUnregistered:   {verdict: approval.WakeDead},
	apns2.ReasonExpiredToken:   {verdict: approval.WakeDead},
	apns2.ReasonBadDeviceToken: {approval.WakeDead, checkEnvironment},

	apns2.ReasonDeviceTokenNotForTopic: {approval.WakeRefused, checkTopic},

	apns2.ReasonExpiredProviderToken:      {approval.WakeBroken, checkClock},
	apns2.ReasonInvalidProviderToken:      {approval.WakeBroken, checkKey},
	apns2.ReasonMissingProviderToken:      {approval.WakeBroken, checkKey},
	apns2.ReasonForbidden:                 {approval.WakeBroken, checkKey},
	apns2.ReasonBadCertificate:            {approval.WakeBroken, checkKey},
	apns2.ReasonBadCertificateEnvironment: {approval.WakeBroken, ourKeysEnv},
	reasonUnrelatedKeyID:                  {approval.WakeBroken, ourKeysEnv},
	reasonBadEnvironmentKeyID:             {approval.WakeBroken, ourKeysEnv},
	reasonBadEnvironmentKey:               {approval.WakeBroken, ourKeysEnv},
	apns2.ReasonTopicDisallowed:           {approval.WakeBroken, ourTopic},
	apns2.ReasonBadTopic:                  {approval.WakeBroken, ourTopic},
	apns2.ReasonMissingTopic:              {approval.WakeBroken, ourTopic},

	apns2.ReasonIdleTimeout:                 {verdict: approval.WakeLater},
	apns2.ReasonTooManyRequests:             {verdict: approval.WakeLater},
	apns2.ReasonTooManyProviderTokenUpdates: {approval.WakeLater, "another program pushes with this team's keys, or this server is restarted all the time"},
}

// verdict returns what follows from an answer: nil if the push was taken.
func (x *exchange) verdict() error {
	if x.status == http.StatusOK {
		return nil
	}
	e := &approval.WakeError{Verdict: byStatus(x.status), Why: "APNs: status " + strconv.Itoa(x.status) + " without a reason"}
	if x.reason != "" {
		e.Why = "APNs: " + x.reason
	}
	if known, ok := reactions[x.reason]; ok {
		e.Verdict, e.Advice = known.verdict, known.advice
	}
	switch e.Verdict {
	case approval.WakeLater:
		e.After = x.after
	case approval.WakeDead:
		e.Since = x.since
	}
	return e
}

// byStatus is what follows from a status whose reason says no more, or is one that
// Apple has added since.
func byStatus(status int) approval.WakeVerdict {
	switch {
	case status == http.StatusGone:
		return approval.WakeDead
	case status == http.StatusForbidden:
		return approval.WakeBroken
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return approval.WakeLater
	}
	return approval.WakeRefused
}
