package window

import (
	"errors"
	"strings"

	"github.com/countersignd/countersign/device-agent/agent"
	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// A Said is an error in words for the person, from a message file.
type Said string

// Error returns the words.
func (s Said) Error() string { return string(s) }

// problems are the messages for what can be wrong. That the server refused has one for
// each reason.
var problems = map[agent.ProblemKind]string{
	agent.OtherProblem: "problem.other", agent.Unresolved: "problem.unresolved", agent.Unanswered: "problem.unanswered",
	agent.NotListening: "problem.not-listening", agent.NotReached: "problem.not-reached", agent.Broke: "problem.broke",
	agent.OtherServer: "problem.other-server", agent.Silenced: "problem.silenced", agent.Ended: "problem.ended",
	agent.Slept: "problem.slept", agent.NotConfirmed: "problem.not-confirmed", agent.Unfinished: "problem.unfinished",
	agent.PromptGone: "problem.prompt-gone", agent.RequestOver: "problem.request-over",
	agent.EnrolledAlready: "problem.enrolled-already", agent.NotEnrolled: "problem.not-enrolled",
	agent.NeverAgain: "problem.never-again", agent.NothingOffline: "code.no-offline",
	agent.PassphraseIsNeeded: "problem.passphrase-needed", agent.PassphraseIsWrong: "problem.passphrase-wrong",
	agent.OtherProcess: "problem.other-process",
}

// A telling is a sentence about what is wrong. Words that are not of the message files
// stand by themselves, in quotation marks.
type telling struct {
	words  string
	others bool
}

// tellings says what is wrong. dir is the directory of the device.
func (m *Messages) tellings(err error, dir string) []telling {
	if said, ok := errors.AsType[Said](err); ok {
		return []telling{{words: string(said)}}
	}
	var all []telling
	say := func(key string, values ...string) { all = append(all, telling{words: m.Say(key, values...)}) }
	for _, p := range agent.ProblemsOf(err) {
		words := "–"
		if p.Key != "" {
			words = agent.Fingerprint(p.Key)
		}
		if p.Kind == agent.Refused {
			say(m.refusal(p.Reason))
		} else {
			say(problems[p.Kind], "server", p.Server, "words", words, "dir", text.Escape(dir))
		}
		switch p.Kind {
		case agent.OtherProblem:
		case agent.Refused:
			say("problem.server-says")
		case agent.NotReached, agent.Broke:
			say("problem.system-says")
		default:
			continue
		}
		all = append(all, telling{stranger(p.Detail), true})
	}
	return all
}

// Reason says in one sentence what is wrong.
func (m *Messages) Reason(err error) string { return m.tellings(err, "")[0].words }

// refusal returns the message for a reason of the server's.
func (m *Messages) refusal(reason countersignv1.ErrorReason) string {
	key := "refused." + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(reason.String(), "ERROR_REASON_")), "_", "-")
	if !m.Has(key) {
		key = "refused.other"
	}
	return key
}

// trouble adds what is wrong.
func (p *page) trouble(size float32, err error, dir string) {
	for _, t := range p.messages.tellings(err, dir) {
		s := style{size: size, color: p.palette.danger}
		if !t.others {
			p.say(s, t.words)
			continue
		}
		s.color = p.palette.muted
		rtl := rightToLeft(t.words, false)
		for _, line := range s.wrap(t.words, p.room()) {
			p.objects = append(p.objects, s.draw(line, rtl, p.messages.rtl, margin, p.y, p.room())...)
			p.y += s.height()
		}
	}
}
