package server

import (
	"cmp"
	"fmt"
)

// Limits bound what callers may take of the server's memory and time before
// it knows them. In each field zero means the default; nothing may be
// unlimited. The defaults hold a server under flood below 256 MiB and let
// 1,000 agents behind one address come back within seconds of a restart.
type Limits struct {
	// AcceptRate is how many connections are accepted in a second, and
	// AcceptBurst how many at once. More wait in the operating system's queue.
	AcceptRate  int // default 1000
	AcceptBurst int // default 1000

	// SourceRate and SourceBurst are the same for one source: an IPv4 address
	// or an IPv6 /64. More are closed before a byte is read.
	SourceRate  int // default 500
	SourceBurst int // default 1000

	// Handshakes is how many connections may be in their TLS handshake. When
	// a further one comes, the oldest is closed. It is more than AcceptRate
	// and AcceptBurst allow in a second, so a handshake always has a second.
	Handshakes int // default 2048

	// Strangers is how many connections there may be, behind a handshake, of
	// callers that have shown neither the key of a trusted device nor a good
	// token, and StrangersPerSource how many of them of one source. When a
	// further one comes, the oldest is closed: who means well is through in a
	// moment. A stranger's connection lives for a minute at most.
	Strangers          int // default 1024
	StrangersPerSource int // default 256

	// StrangerStreams is how many calls all strangers together may have open.
	// Each can hold back a message of 64 KiB.
	StrangerStreams int // default 256

	// StrangerCallRate is how many calls the strangers of one source may make
	// in a second, and StrangerCallBurst how many at once; all sources
	// together may make ten times as many.
	StrangerCallRate  int // default 50
	StrangerCallBurst int // default 500

	// DeviceConnections is how many connections one trusted device may have.
	// When a further one comes, its oldest is closed.
	DeviceConnections int // default 4

	// ApplicationConnections is how many connections there may be, of all
	// applications together, that have shown a good token. When a further one
	// comes, the oldest of the application that has most is closed.
	ApplicationConnections int // default 1024
}

func (l Limits) withDefaults() (Limits, error) {
	for _, n := range []struct {
		name  string
		value *int
		def   int
	}{
		{"accept rate", &l.AcceptRate, 1000},
		{"accept burst", &l.AcceptBurst, 1000},
		{"accept rate of a source", &l.SourceRate, 500},
		{"accept burst of a source", &l.SourceBurst, 1000},
		{"number of handshakes", &l.Handshakes, 2048},
		{"number of strangers", &l.Strangers, 1024},
		{"number of strangers of a source", &l.StrangersPerSource, 256},
		{"number of strangers' calls", &l.StrangerStreams, 256},
		{"rate of strangers' calls", &l.StrangerCallRate, 50},
		{"burst of strangers' calls", &l.StrangerCallBurst, 500},
		{"number of connections of a device", &l.DeviceConnections, 4},
		{"number of connections of applications", &l.ApplicationConnections, 1024},
	} {
		*n.value = cmp.Or(*n.value, n.def)
		if *n.value < 0 {
			return l, fmt.Errorf("the %s is %d, want at least 1", n.name, *n.value)
		}
	}
	return l, nil
}
