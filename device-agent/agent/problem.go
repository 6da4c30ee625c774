package agent

import (
	"errors"

	"google.golang.org/grpc/status"

	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/text"
	countersignv1 "github.com/countersignd/countersign/proto/countersign/v1"
)

// A ProblemKind is what is wrong, for programs that say it in words of their own, in
// another language for example. The words of errors are for those that have none.
type ProblemKind int

// The kinds. The zero kind is all that is not among the others.
const (
	OtherProblem       ProblemKind = iota
	Unresolved                     // the server's name is not known to the network
	Unanswered                     // the server does not answer
	NotListening                   // its machine answers, and nothing listens there
	NotReached                     // it cannot be reached, as Detail says
	Broke                          // the connection broke, as Detail says
	OtherServer                    // it showed another key than the expected one
	Silenced                       // it has gone silent
	Ended                          // it ended the connection, as it does now and then
	Slept                          // this device was asleep
	Refused                        // it refused, as Reason says
	NotConfirmed                   // besides: whether it counted is not known
	Unfinished                     // besides: what was begun can be gone on with
	PromptGone                     // the prompt is gone
	RequestOver                    // besides: the request to be trusted is over
	EnrolledAlready                // there is a device in the directory
	NotEnrolled                    // there is none
	NeverAgain                     // its keys or its counter are gone for good
	NothingOffline                 // it cannot make codes without the server yet
	PassphraseIsNeeded             // its keys are encrypted
	PassphraseIsWrong
	OtherProcess // another process of this device is sending and does not come to an end
)

// A Problem is one thing that is wrong.
type Problem struct {
	Kind   ProblemKind
	Server string                    // the address, of those about a connection
	Key    string                    // of OtherServer: key id of the key it showed; empty if that was none
	Reason countersignv1.ErrorReason // of Refused; unspecified if this version does not know it
	// Detail is what the system, a library or the server says of it, in English, or "".
	Detail string
}

// sentinels are the kinds of errors that are told by themselves.
var sentinels = map[error]ProblemKind{
	errSilent: Silenced, errEnded: Ended, errSuspended: Slept, errBusy: OtherProcess,
	ErrGone: PromptGone, ErrRequestOver: RequestOver, ErrEnrolled: EnrolledAlready, ErrNotEnrolled: NotEnrolled,
	ErrLost: NeverAgain, ErrNoOfflineSecret: NothingOffline,
	keystore.ErrPassphraseNeeded: PassphraseIsNeeded, keystore.ErrWrongPassphrase: PassphraseIsWrong,
}

// besides are the kinds that say more of another one.
var besides = map[ProblemKind]bool{NotConfirmed: true, Unfinished: true, RequestOver: true}

// ProblemsOf returns what is wrong: one problem, and what there is to say besides. It
// is empty if err is nil.
func ProblemsOf(err error) []Problem {
	if err == nil {
		return nil
	}
	all := problemsIn(err)
	for _, p := range all {
		if !besides[p.Kind] {
			return all
		}
	}
	return append([]Problem{{Detail: err.Error()}}, all...)
}

func problemsIn(err error) []Problem {
	switch e := err.(type) {
	case *WrongServerError:
		return []Problem{{Kind: OtherServer, Key: e.Got}}
	case *problemError:
		if besides[e.problem.Kind] {
			return append(ProblemsOf(e.err), e.problem)
		}
		return []Problem{e.problem}
	case *explained:
		if errorInfo(e) != nil && errorInfo(errors.Unwrap(e.err)) == nil {
			return []Problem{{Kind: Refused, Reason: Reason(e), Detail: e.words}}
		}
	}
	for sentinel, kind := range sentinels {
		if err == sentinel {
			return []Problem{{Kind: kind}}
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		var all []Problem
		for _, err := range e.Unwrap() {
			all = append(all, problemsIn(err)...)
		}
		return all
	case interface{ Unwrap() error }:
		return problemsIn(e.Unwrap())
	}
	if errorInfo(err) != nil {
		return []Problem{{Kind: Refused, Reason: Reason(err), Detail: text.EscapeSentence(status.Convert(err).Message())}}
	}
	return nil
}

// A problemError is an error that says what kind it is.
type problemError struct {
	problem Problem
	words   string
	err     error // may be nil
}

func (e *problemError) Error() string { return e.words }
func (e *problemError) Unwrap() error { return e.err }

// andThat returns err with something to say besides, in a sentence of its own.
func andThat(err error, kind ProblemKind, sentence string) error {
	return &problemError{Problem{Kind: kind}, err.Error() + ". " + sentence, err}
}
