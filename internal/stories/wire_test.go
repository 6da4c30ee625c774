package stories

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// A wire lies between an agent and the server and breaks once: in the place of the
// nth TLS record in one direction, which is lost.
type wire struct {
	address string
	target  string
	answers bool // those are lost; else the questions are

	mu   sync.Mutex
	left int // until it breaks
}

func newWire(t *testing.T, target string, answers bool, nth int) *wire {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: l.Addr().String(), target: target, answers: answers, left: nth}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			agent, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { w.connect(agent) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait() // the agents have ended
	})
	return w
}

func (w *wire) connect(agent net.Conn) {
	defer agent.Close()
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	both.Go(func() {
		defer agent.Close()
		defer server.Close()
		w.carry(server, agent, !w.answers)
	})
	both.Go(func() {
		defer agent.Close()
		defer server.Close()
		w.carry(agent, server, w.answers)
	})
	both.Wait()
}

// carry copies whole TLS records (RFC 8446, 5.1) until one is to be lost.
func (w *wire) carry(to io.Writer, from io.Reader, loses bool) {
	header := make([]byte, 5)
	for {
		if _, err := io.ReadFull(from, header); err != nil {
			return
		}
		record := make([]byte, len(header)+int(binary.BigEndian.Uint16(header[3:])))
		copy(record, header)
		if _, err := io.ReadFull(from, record[len(header):]); err != nil {
			return
		}
		if loses && w.breaks() {
			return
		}
		if _, err := to.Write(record); err != nil {
			return
		}
	}
}

func (w *wire) breaks() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left--
	return w.left == 0
}

// whole lets the wire break no more, and reports whether it did.
func (w *wire) whole() (broke bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	broke = w.left <= 0
	w.left = 0
	return broke
}

// TestS7EachMessageIsLost breaks the connection in the place of each record that
// the new device sends, and of each that it should get. It finishes by itself.
func TestS7EachMessageIsLost(t *testing.T) {
	h := newHouse(t)
	for lost, answers := range map[string]bool{"questions": false, "answers": true} {
		t.Run(lost, func(t *testing.T) {
			each(t, func(t *testing.T, by way, nth int) bool {
				w := newWire(t, h.address, answers, nth)
				n := h.newcomer(t, by, w.address).watched()
				out, status := n.run(n.command...)
				broke := w.whole()
				if status != 0 {
					t.Errorf("the enrolment ended with %d:\n%s", status, out)
				}
				n.agreed()
				return broke
			})
		})
	}
}

var (
	isAsked   = regexp.MustCompile(`(?m)^A device wants to be trusted`)
	showsCode = regexp.MustCompile(`(?m)^code: (\d{3} \d{3})$|^A device wants to be trusted`)
)

// TestS7TheApprovingDeviceIsKilledAtEachStep kills the agent on which the owner
// presses Allow. Run again, it shows the code or asks again.
func TestS7TheApprovingDeviceIsKilledAtEachStep(t *testing.T) {
	h := newHouse(t)
	more := true
	for nth := 1; more && !t.Failed(); nth++ {
		t.Run(strings.Repeat("i", nth), func(t *testing.T) {
			n := h.newcomer(t, byApproval, h.address)
			mac := doom(t, nth, agentSteps, "countersign-agent", "--dir", n.macDir, "run")
			tablet := doom(t, 0, agentSteps, "countersign-agent", n.command...)
			_, asked, err := mac.match(isAsked, 0)
			n.must(err)
			mac.armed.Store(true)
			io.WriteString(mac.stdin, "a\n")
			text, m, err := mac.match(showsCode, asked[1])
			if more = err != nil; more {
				<-mac.done
				mac = doom(t, 0, agentSteps, "countersign-agent", "--dir", n.macDir, "run")
				text, m, err = mac.match(showsCode, 0)
				n.must(err)
				if m[2] < 0 {
					io.WriteString(mac.stdin, "a\n")
					text, m, err = mac.match(showsCode, m[1])
					n.must(err)
				}
			}
			io.WriteString(tablet.stdin, text[m[2]:m[3]]+"\n")
			<-tablet.done
			if text, _ := tablet.out.text(); tablet.status != 0 {
				t.Errorf("the enrolment ended with %d:\n%s", tablet.status, text)
			}
			mac.kill()
			n.watched().agreed()
		})
	}
}

// TestA10OneInvitationManyAgents gives one invitation to many agents at once.
func TestA10OneInvitationManyAgents(t *testing.T) {
	h := newHouse(t)
	n := h.newcomer(t, byInvitation, h.address).watched()
	var all []*victim
	for i := range 8 {
		all = append(all, doom(t, 0, agentSteps, "countersign-agent", "--dir", filepath.Join(t.TempDir(), string(rune('a'+i))), "enroll", n.link))
	}
	winners := 0
	for _, v := range all {
		<-v.done
		if text, _ := v.out.text(); v.status == 0 {
			winners++
		} else if !strings.Contains(text, "somebody else may be trusted in your place") {
			t.Errorf("an agent that came late ended with %d and said %q", v.status, text)
		}
	}
	if listed := n.listed(); winners != 1 || len(listed) != 1 {
		t.Errorf("%d agents were enrolled, the list has %q, want one", winners, listed)
	}
}

// TestS7ManyEnrolInOneDirectory starts several enrolments of one device at once, also
// of both kinds.
func TestS7ManyEnrolInOneDirectory(t *testing.T) {
	h := newHouse(t)
	for name, kinds := range map[string][]way{
		"invitation": {byInvitation, byInvitation, byInvitation},
		"approval":   {byApproval, byApproval, byApproval},
		"both":       {byApproval, byInvitation, byApproval, byInvitation},
	} {
		t.Run(name, func(t *testing.T) {
			n := h.newcomer(t, kinds[0], h.address).watched()
			commands := map[way][]string{kinds[0]: n.command}
			if name == "both" {
				invited, err := h.admin.CreateInvitation(t.Context(), &pb.CreateInvitationRequest{Account: n.account})
				n.must(err)
				commands[byInvitation] = append(n.again(), invited.GetLink())
			}
			var all []*victim
			for _, w := range kinds {
				all = append(all, doom(t, 0, agentSteps, "countersign-agent", commands[w]...))
			}
			trusted, code := 0, ""
			for _, v := range all {
				if _, _, err := v.match(asks, 0); err == nil {
					if code == "" {
						var err error
						code, err = n.code()
						n.must(err)
					}
					io.WriteString(v.stdin, code+"\n") // the same one: one device, one request
				}
				<-v.done
				text, _ := v.out.text()
				switch {
				case v.status == 0:
					trusted++
				case strings.Contains(text, "enrolled already"), strings.Contains(text, "an enrolment by invitation was begun here"):
				default:
					t.Errorf("an enrolment beside others ended with %d:\n%s", v.status, text)
				}
			}
			if trusted == 0 {
				t.Error("none of them finished")
			}
			n.agreed()
		})
	}
}
