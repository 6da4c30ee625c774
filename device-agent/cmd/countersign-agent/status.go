package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// callTimeout is how long the server may take to answer a simple question.
const callTimeout = 15 * time.Second

// maxClockOffset is how wrong this device's clock may be before it matters: a
// prompt lives for five minutes.
const maxClockOffset = 30 * time.Second

type statusCmd struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Help is shown with status --help.
func (statusCmd) Help() string {
	return `Exit code 0 means that this device is trusted, that the server could be reached just now, and that the account is not suspended. Otherwise standard error says in one line what is wrong and what to do.

With --json: {"directory", "phase" ("none", "enrolling", "asking", "recovering" or "trusted"), "account", "server", "server_key" (its key id), "server_fingerprint" (the same in words), "device", "fingerprint", "name", "kind", "key_storage", "encrypted", "offline_codes" (whether it can make them), "reachable", "trusted", "suspended", "recovery_codes_left", "clock_offset" (seconds this device's clock is ahead), "records", "records_time" (how many records the server's record had when this device last saw it in order, and when), "record_problem", "notices" (how many were not shown yet), "last_reached" (when this device last had a request or a test prompt), "push", "problem"}. ` + pushHelp + `.`
}

// A report is all that status says.
type report struct {
	Directory   string   `json:"directory"`
	Phase       string   `json:"phase"`
	Account     string   `json:"account"`
	Server      string   `json:"server"`
	ServerKey   string   `json:"server_key"`
	ServerWords string   `json:"server_fingerprint"`
	Device      string   `json:"device"`
	Fingerprint string   `json:"fingerprint"`
	Name        string   `json:"name"`
	Kind        string   `json:"kind"`
	KeyStorage  string   `json:"key_storage"`
	Encrypted   bool     `json:"encrypted"`
	Offline     bool     `json:"offline_codes"`
	Reachable   bool     `json:"reachable"`
	Trusted     bool     `json:"trusted"`
	Suspended   bool     `json:"suspended"`
	CodesLeft   int32    `json:"recovery_codes_left"`
	ClockOffset int64    `json:"clock_offset"`
	Records     uint64   `json:"records"`
	RecordsTime int64    `json:"records_time"`
	RecordWrong string   `json:"record_problem"`
	Notices     int      `json:"notices"`
	Reached     int64    `json:"last_reached"`
	Push        pushJSON `json:"push"`
	Problem     string   `json:"problem"`

	opened bool // the keys, so that it is known what they can do
	agent  *agent.Agent
	news   []*countersignv1.Notice
	device *countersignv1.Device
}

// Run reports on this device.
func (c *statusCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r := report{Directory: env.dir, Phase: "none"}
	problem := r.look(ctx, env)
	if problem != nil {
		r.Problem = problem.Error()
	}
	if c.JSON {
		return errors.Join(problem, env.printJSON(r))
	}
	if err := errors.Join(r.print(env), printNews(env, r.agent, r.news)); err != nil {
		return errors.Join(problem, err)
	}
	return problem
}

// look fills the report in, as far as it comes, and returns what is wrong.
func (r *report) look(ctx context.Context, env *environment) error {
	state, err := agent.LoadState(env.dir)
	if err != nil {
		return err
	}
	r.Phase, r.Account, r.Server = state.Phase, state.Account, state.Server
	r.Device, r.Fingerprint, r.Name, r.Kind = state.Device, agent.Fingerprint(state.Device), state.Name, state.Kind
	if r.Encrypted, err = keystore.Encrypted(env.dir); err != nil && !errors.Is(err, keystore.ErrNoKeys) {
		return err
	}
	if r.KeyStorage, err = keystore.Storage(env.dir); err != nil {
		r.KeyStorage = ""
	}
	r.ServerKey, r.ServerWords = state.Pin, agent.Fingerprint(state.Pin)
	if state.Phase == agent.Recovering && state.TrustTime > 0 {
		return notYet(time.Unix(state.TrustTime, 0))
	}
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	r.lookAtRecord(agent.LoadRecord(env.dir)) // and once more when the server has answered
	_, err = a.OfflineCode()
	r.opened, r.Offline = true, err == nil
	asked := time.Now()
	self, err := a.Self(ctx)
	if err != nil {
		r.Reachable = agent.Reason(err) != countersignv1.ErrorReason_ERROR_REASON_UNSPECIFIED
		return explain(err)
	}
	r.Reachable = true
	r.agent, r.news = a, a.NewNotices(self.GetNotices())
	r.Notices = len(r.news)
	r.device = self.GetDevice()
	r.Reached, r.Push = unix(r.device.GetLastReachedTime()), newPushJSON(r.device.GetPush())
	r.Trusted = self.GetDevice().GetState() == countersignv1.DeviceState_DEVICE_STATE_TRUSTED
	r.Suspended = self.GetAccountSuspended()
	r.CodesLeft = self.GetRecoveryCodesLeft()
	// The server read its clock between the two readings of this one.
	middle := asked.Add(time.Since(asked) / 2)
	offset := middle.Sub(self.GetServerTime().AsTime())
	r.ClockOffset = int64(offset.Round(time.Second) / time.Second)
	switch {
	case !r.Trusted:
		return exitErr{errors.New("the server does not trust this device: ask the administrator"), exitNotTrusted}
	case r.Suspended:
		return errors.New("the account is suspended: nothing can be approved until an administrator resumes it")
	case offset.Abs() > maxClockOffset:
		return fmt.Errorf("this device's clock is wrong by %v: set it, or requests will seem to be over too early or too late", offset.Abs().Round(time.Second))
	}
	return r.lookAtRecord(a.CheckRecord(ctx))
}

// lookAtRecord notes what is known of the server's record.
func (r *report) lookAtRecord(record agent.Record, err error) error {
	if record.Head.Size > 0 {
		r.Records, r.RecordsTime = record.Head.Size, record.Head.Time.Unix()
	}
	if err == nil && record.Alarm != nil {
		err = record.Alarm
	}
	if err != nil {
		r.RecordWrong = err.Error()
	}
	return err
}

func (r *report) print(env *environment) error {
	var lines [][2]string
	widest := 0
	line := func(label, value string) {
		if value != "" {
			lines = append(lines, [2]string{label, value})
			widest = max(widest, len(label))
		}
	}
	line("directory", text.Escape(r.Directory))
	line("enrolled", map[string]string{"none": "no", agent.Enrolling: "begun, not finished", agent.Asked: "trusted devices were asked, not finished", agent.Recovering: "a recovery code was handed in, not finished", agent.Trusted: "yes"}[r.Phase])
	line("account", r.Account)
	line("server", r.Server)
	line("server's key", r.ServerWords)
	if r.Phase != "none" {
		line("device", text.Isolate(r.Name)+" ("+r.Kind+")")
		line("fingerprint", r.Fingerprint)
		line("keys", keysLine(r.Directory))
	}
	if r.opened {
		line("offline codes", map[bool]string{true: "can be made", false: "not yet: run  " + env.command() + " code  once while the server can be reached"}[r.Offline])
	}
	if r.Reachable {
		line("the server", "answers")
	}
	if r.Trusted {
		line("trusted", "yes")
		line("account suspended", map[bool]string{true: "yes", false: "no"}[r.Suspended])
		line("last reached", reachedLine(r.device))
		line("woken by", wokenLine(r.device.GetPush()))
		line("recovery codes", env.codesLeftLine(r.CodesLeft))
		line("clock", clockLine(r.ClockOffset))
	}
	line("the server's record", recordLine(r))
	var all strings.Builder
	for _, l := range lines {
		for _, part := range hanging(fmt.Sprintf("%-*s  ", widest, l[0]), l[1], env.width()) {
			fmt.Fprintln(&all, part)
		}
	}
	_, err := io.WriteString(env.out, all.String())
	return err
}

func recordLine(r *report) string {
	switch {
	case r.RecordWrong != "":
		return "NOT IN ORDER"
	case r.Records > 0:
		return fmt.Sprintf("in order, %d records at %s", r.Records, time.Unix(r.RecordsTime, 0).Format(time.DateTime))
	}
	return ""
}

func clockLine(offset int64) string {
	switch {
	case offset > 0:
		return fmt.Sprintf("%d s ahead of the server's", offset)
	case offset < 0:
		return fmt.Sprintf("%d s behind the server's", -offset)
	}
	return "as the server's"
}
