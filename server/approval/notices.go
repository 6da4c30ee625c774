package approval

import (
	"slices"
	"strings"
	"time"
)

// notable are the events that the owner of an account must know: each record of
// one becomes a [Notice] on every device of the account, in the transaction of
// the deed. All others are on record only. Whatever records one of these rings
// the account's devices after the commit.
var notable = map[Event]bool{
	EventAccountSuspended: true,
	EventAccountResumed:   true,
	EventCodesClosed:      true,
	EventSourceSilenced:   true,
	EventLaneSilenced:     true,
	EventUnlocked:         true,
	EventDeviceEnrolled:   true,
	EventDeviceRenamed:    true,
	EventDeviceRevoked:    true,
	EventDeviceConfirmed:  true,
	EventDeviceReadmitted: true,
	EventPushDied:         true,
	EventCounterReused:    true,
	EventRecoveryCreated:  true,
	EventRecoveryRenewed:  true,
	EventRecoveryUsed:     true,
	EventRecoveryVoided:   true,
}

// A Notice tells the owner of an account what happened to it. It holds the
// names that the devices had then.
type Notice struct {
	Sequence    uint64 // of the record that it was made with
	Time        time.Time
	Event       Event
	Actor       Actor
	ActorName   string `json:",omitzero"` // if the actor is a device
	Device      string `json:",omitzero"`
	DeviceName  string `json:",omitzero"`
	DeviceKind  string `json:",omitzero"`
	Application string `json:",omitzero"`
	Address     string `json:",omitzero"`
	Detail      string `json:",omitzero"` // as in the record; of a renamed device the old name
}

const (
	maxNotices     = 20 // of an account
	noticeLifetime = 30 * 24 * time.Hour
)

// notices are an account's, oldest first.
type notices struct{ List []Notice }

// note makes a notice of a record if the owner must know it.
func note(tx *transaction, r *Record) error {
	if r.Account == "" || !notable[r.Event] {
		return nil
	}
	n := Notice{
		Sequence: r.Sequence, Time: r.Time, Event: r.Event, Actor: r.Actor,
		Device: r.Device, Application: r.Application, Address: r.Address, Detail: r.Detail,
	}
	about, err := deviceOf(tx, r.Account, r.Device)
	if err != nil {
		return err
	}
	n.DeviceName, n.DeviceKind = about.Name, about.Kind
	if n.Event == EventDeviceRenamed {
		n.Detail = strings.TrimSuffix(n.Detail, renamedTo(about.Name))
	}
	if r.Actor.Kind == ActorDevice {
		actor, err := deviceOf(tx, r.Account, r.Actor.ID)
		if err != nil {
			return err
		}
		n.ActorName = actor.Name
	}
	kept, err := load[notices](tx, bucketNotices, r.Account)
	if err != nil {
		return err
	}
	if kept == nil {
		kept = &notices{}
	}
	kept.add(n)
	return save(tx, bucketNotices, r.Account, kept)
}

// deviceOf returns a device of the account, or the zero Device.
func deviceOf(tx *transaction, account, id string) (Device, error) {
	if id == "" {
		return Device{}, nil
	}
	d, err := load[Device](tx, bucketDevices, id)
	if err != nil || d == nil || d.Account != account {
		return Device{}, err
	}
	return *d, nil
}

// add adds a notice. If that makes too many, the oldest of the most frequent
// event goes: who makes one thing happen again and again, as a stolen device
// can change its name, drives nothing else out.
func (l *notices) add(n Notice) {
	l.List = slices.DeleteFunc(l.List, func(old Notice) bool { return n.Time.Sub(old.Time) >= noticeLifetime })
	l.List = append(l.List, n)
	if len(l.List) <= maxNotices {
		return
	}
	count := map[Event]int{}
	for _, old := range l.List {
		count[old.Event]++
	}
	most := 0
	for _, c := range count {
		most = max(most, c)
	}
	oldest := slices.IndexFunc(l.List, func(old Notice) bool { return count[old.Event] == most })
	l.List = slices.Delete(l.List, oldest, oldest+1)
}

// of returns what the device is told: what happened since it was enrolled, but
// for that, and for the recovery codes that it showed then. It may be part of l.
func (l *notices) of(d *Device, now time.Time) []Notice {
	if l == nil {
		return nil
	}
	untold := func(n Notice) bool {
		own := n.Device == d.ID && (n.Event == EventDeviceEnrolled || n.Event == EventRecoveryCreated)
		return own || n.Time.Before(d.Enrolled) || now.Sub(n.Time) >= noticeLifetime
	}
	told := l.List
	for len(told) > 0 && untold(told[0]) {
		told = told[1:]
	}
	if slices.ContainsFunc(told, untold) {
		return slices.DeleteFunc(slices.Clone(told), untold)
	}
	return slices.Clip(told)
}
