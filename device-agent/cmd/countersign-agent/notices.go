package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

type noticesCmd struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Help is shown with notices --help.
func (noticesCmd) Help() string {
	return `What happened to the account of this device in the last 30 days and since it was enrolled, the 20 newest at most: devices that came and went, new names, keys that seem to be copied, and what an administrator did. run and status show each once; this shows all of them again.

With --json: {"notices": [{"sequence", "time", "event", "actor_kind", "actor", "actor_name", "device", "device_name", "device_kind", "application", "address", "detail", "text"}]}, oldest first; times are Unix seconds, and text is the sentence that is shown to people.`
}

type noticeJSON struct {
	Sequence    uint64 `json:"sequence"`
	Time        int64  `json:"time"`
	Event       string `json:"event"`
	ActorKind   string `json:"actor_kind"`
	Actor       string `json:"actor"`
	ActorName   string `json:"actor_name"`
	Device      string `json:"device"`
	DeviceName  string `json:"device_name"`
	DeviceKind  string `json:"device_kind"`
	Application string `json:"application"`
	Address     string `json:"address"`
	Detail      string `json:"detail"`
	Text        string `json:"text"`
}

// Run shows the notices.
func (c *noticesCmd) Run(ctx context.Context, env *environment) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a, err := env.open(ctx)
	if err != nil {
		return err
	}
	self, err := a.Self(ctx)
	if err != nil {
		return explain(err)
	}
	if c.JSON {
		list := make([]noticeJSON, len(self.GetNotices()))
		for i, n := range self.GetNotices() {
			list[i] = noticeJSON{
				Sequence: n.GetSequence(), Time: unix(n.GetTime()), Event: n.GetEvent(),
				ActorKind: n.GetActorKind(), Actor: n.GetActorId(), ActorName: n.GetActorName(),
				Device: n.GetDeviceId(), DeviceName: n.GetDeviceName(), DeviceKind: n.GetDeviceKind(),
				Application: n.GetApplication(), Address: n.GetAddress(), Detail: n.GetDetail(),
				Text: sentence(n, a.State().Device),
			}
		}
		return env.printJSON(map[string]any{"notices": list})
	}
	if len(self.GetNotices()) == 0 {
		_, err := fmt.Fprintln(env.out, "Nothing happened to the account lately that you would have to know.")
		return err
	}
	printNotices(env, self.GetNotices(), a.State().Device)
	return a.NoticesShown(self.GetNotices()...)
}

// printNews prints notices that were not shown yet, and remembers that.
func printNews(env *environment, a *agent.Agent, news []*countersignv1.Notice) error {
	if len(news) == 0 {
		return nil
	}
	fmt.Fprintln(env.out, "\nWhat happened to the account since this device last showed it:")
	printNotices(env, news, a.State().Device)
	return a.NoticesShown(news...)
}

func printNotices(env *environment, notices []*countersignv1.Notice, self string) {
	for _, n := range notices {
		env.printHanging("  ", local(n.GetTime())+"  "+sentence(n, self))
	}
}

// noticeID tells notices from each other. The number alone does not, once a
// server was restored from a backup.
type noticeID struct {
	sequence    uint64
	nanoseconds int64
}

func idOf(n *countersignv1.Notice) noticeID {
	return noticeID{n.GetSequence(), n.GetTime().AsTime().UnixNano()}
}

// sentence says in plain words what a notice tells, on the device self.
func sentence(n *countersignv1.Notice, self string) string {
	device, by := deviceWords(n, self), actorOf(n, self)
	because := ""
	if n.GetDetail() != "" {
		because = ", because: " + text.Isolate(n.GetDetail())
	}
	switch n.GetEvent() {
	case "account.suspended":
		return "The account was suspended by " + by + because + ". Nothing can be approved until it is resumed."
	case "account.resumed":
		return "The account was resumed by " + by + "."
	case "account.codes_closed":
		return "So many wrong codes were typed in a row that no code is compared any more, " + laneWords(n.GetDetail()) + ". When it is over: " + program + " unlock. If it was not you who typed them, allow nothing that you did not begin."
	case "account.source_silenced":
		from := "there"
		if n.GetAddress() != "" {
			from = text.Isolate(n.GetAddress())
		}
		return "“This wasn't me” was said on " + saidOn(n, self) + ": what asks from " + from + " does not ring for 20 minutes. Somebody may know the password: change it where it is used."
	case "account.strangers_silenced":
		return "“This wasn't me” was said twice, the last time on " + saidOn(n, self) + ": who did not sign in to this account lately does not ring for an hour. Somebody may know the password: change it where it is used."
	case "account.unlocked":
		return "Wrong codes, gaps and silences were forgotten, as asked by " + by + because + "."
	case "device.enrolled":
		return "A new device can approve sign-ins now: " + device + ", let in by " + by + ". If you do not know it, revoke it: " + revokeCommand(n)
	case "device.renamed":
		return text.Isolate(n.GetDetail()) + " has another name now: " + device + "."
	case "device.revoked":
		return "Revoked by " + by + ": " + device + because + ". It can approve nothing any more."
	case "device.confirmed":
		return "The server came back from an old backup, and " + by + " confirmed that this device still counts: " + device + ". If it was revoked before, or is not in your hands, revoke it: " + revokeCommand(n)
	case "device.readmitted":
		return "Not seen for 90 days, and readmitted by " + by + ": " + device + ". It can approve sign-ins again. If it is not in your hands, revoke it: " + revokeCommand(n)
	case "device.push_died":
		return "Nothing wakes this device any more: " + device + because + ". It is asked only while its agent runs there, until that registers again."
	case "device.counter_reused":
		return "Two programs seem to use the keys of one device: " + device + ". If it was not restored from a copy, somebody else has its keys: revoke it: " + revokeCommand(n)
	case "recovery.codes_created":
		return "Recovery codes were made and shown on a new device: " + device + "."
	case "recovery.codes_renewed":
		return "New recovery codes were made and shown on " + by + ". Those before them are void."
	case "recovery.codes_voided":
		return "The recovery codes are void, because the device that they were made on was revoked: " + device + ". Make new ones: " + program + " recovery-codes renew"
	case "recovery.code_used":
		return "A recovery code was used for a new device: " + device + ". Codes: " + text.Escape(n.GetDetail()) + ". If it was not you, revoke that device at once, and make new codes: " + revokeCommand(n)
	}
	return "Something happened that this version cannot describe (" + text.Escape(n.GetEvent()) + "). Ask your administrator."
}

// laneWords says whose codes are meant.
func laneWords(lane string) string {
	switch lane {
	case "unknown":
		return "for sign-ins from where nobody signed in lately"
	case "known":
		return "for sign-ins from where you signed in lately"
	case "enrolment":
		return "for devices that want to be trusted"
	}
	return "of the kind " + text.Isolate(lane)
}

// deviceWords names the device that a notice is about.
func deviceWords(n *countersignv1.Notice, self string) string {
	words := text.Isolate(n.GetDeviceName()) + " (" + text.Escape(n.GetDeviceKind()) + ", " + agent.Fingerprint(n.GetDeviceId()) + ")"
	if n.GetDeviceId() == self {
		words += ", which is this device"
	}
	return words
}

// saidOn names the device that said "this wasn't me", after which it is the server
// that silences somebody.
func saidOn(n *countersignv1.Notice, self string) string {
	if n.GetDeviceId() == self {
		return "this device"
	}
	return "the device " + text.Isolate(n.GetDeviceName())
}

// actorOf says who did what a notice tells.
func actorOf(n *countersignv1.Notice, self string) string {
	switch n.GetActorKind() {
	case "device":
		if n.GetActorId() == self {
			return "this device"
		}
		return "the device " + text.Isolate(n.GetActorName())
	case "administrator":
		return "the administrator " + text.Escape(n.GetActorId())
	case "application":
		return "the application " + text.Escape(n.GetActorId())
	case "recovery":
		return "a recovery code"
	}
	return "the server"
}

func revokeCommand(n *countersignv1.Notice) string {
	id := n.GetDeviceId()
	return strings.TrimSpace(program + " devices revoke " + text.Escape(id[:min(shownID, len(id))]))
}
