package agent

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/countersignd/countersign/internal/code"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

const (
	offlineName = "offline.key" // the offline secret, sealed, in base64 with a line feed
	clockName   = "clock"       // seconds that the clock was ahead, in decimal with a line feed

	offlineSize    = 32
	offlinePurpose = "offline secret"
)

// ErrNoOfflineSecret is wrapped when a device cannot make codes by itself.
var ErrNoOfflineSecret = errors.New("this device cannot make codes without the server yet, as it was enrolled before that was possible or has lost what it takes: run countersign-agent code once while the server can be reached")

// An OfflineCode is a code that this device has made without the server. It
// counts once.
type OfflineCode struct {
	Digits     string        // eight decimal digits
	ExpireTime time.Time     // when the next one is made, by this device's clock
	Ahead      time.Duration // by which its clock was ahead of the server's, as far as is known; allowed for
}

// OfflineCode makes a code without the server, which needs no network. The error
// wraps [ErrNoOfflineSecret] if this device does not have what it takes.
func (a *Agent) OfflineCode() (OfflineCode, error) {
	secret, err := a.offlineSecret()
	if err != nil {
		return OfflineCode{}, err
	}
	ahead := readClock(a.dir)
	step := code.Step(time.Now().Add(-ahead))
	return OfflineCode{Digits: code.Offline(secret, step), ExpireTime: code.StepTime(step + 1).Add(ahead), Ahead: ahead}, nil
}

// Unreachable reports whether an error of [Agent.NewCode] means that the server
// could not be asked, or could not answer for now. It does not if another server
// was reached, or if this machine is what failed.
func Unreachable(err error) bool {
	if errors.As(err, new(*WrongServerError)) || errors.As(err, new(*localError)) {
		return false
	}
	switch Reason(err) {
	case countersignv1.ErrorReason_ERROR_REASON_UNSPECIFIED,
		countersignv1.ErrorReason_ERROR_REASON_INTERNAL,
		countersignv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
		countersignv1.ErrorReason_ERROR_REASON_STORE_FAILED,
		countersignv1.ErrorReason_ERROR_REASON_RATE_LIMITED,
		countersignv1.ErrorReason_ERROR_REASON_CALLER_GONE:
		return true
	}
	return false
}

// keepOfflineSecret makes durable what the server has handed over, if it has.
func (a *Agent) keepOfflineSecret(secret []byte) error {
	switch len(secret) {
	case 0:
		return nil
	case offlineSize:
	default:
		return errors.New("the server handed over something that offline codes cannot be made from: ask the administrator")
	}
	unlock, err := lockDir(a.dir)
	if err != nil {
		return &localError{err}
	}
	defer unlock()
	if old, err := a.offlineSecret(); err == nil && bytes.Equal(old, secret) {
		return nil
	}
	sealed, err := a.keys.Seal(offlinePurpose, secret)
	if err == nil {
		err = writeFile(a.dir, offlineName, []byte(base64.StdEncoding.EncodeToString(sealed)+"\n"))
	}
	if err != nil {
		return &localError{fmt.Errorf("writing what offline codes are made from: %w", err)}
	}
	return nil
}

func (a *Agent) offlineSecret() ([]byte, error) {
	path := filepath.Join(a.dir, offlineName)
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoOfflineSecret
	}
	if err != nil {
		return nil, fmt.Errorf("reading what offline codes are made from: %w", err)
	}
	sealed, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(string(data), "\n"))
	if err == nil {
		data, err = a.keys.Unseal(offlinePurpose, sealed)
	}
	if err != nil || len(data) != offlineSize {
		return nil, fmt.Errorf("%s: the file is damaged, or of another device: %w", path, ErrNoOfflineSecret)
	}
	return data, nil
}

// noteClock remembers how far this device's clock is ahead of the server's, for the
// time when there is no server. That it could not be written keeps nobody from
// anything now.
func (a *Agent) noteClock(ahead time.Duration) {
	unlock, err := lockDir(a.dir)
	if err != nil {
		return
	}
	defer unlock()
	if (ahead - readClock(a.dir)).Abs() > clockNoise {
		writeFile(a.dir, clockName, []byte(strconv.FormatInt(int64(ahead.Round(time.Second)/time.Second), 10)+"\n"))
	}
}

// readClock returns what noteClock has remembered, and zero if it is not known.
func readClock(dir string) time.Duration {
	data, err := readFile(filepath.Join(dir, clockName))
	if err != nil {
		return 0
	}
	seconds, err := strconv.ParseInt(strings.TrimSuffix(string(data), "\n"), 10, 64)
	if ahead := time.Duration(seconds) * time.Second; err == nil && int64(ahead/time.Second) == seconds {
		return ahead
	}
	return 0
}
