// Package output is what a command prints to. It knows whether something was lost on
// the way, and how wide the terminal is, if it is one.
package output

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// An Output is standard output. It remembers that something could not be written,
// because a command is not done if nobody can have read what it said: a link that was
// lost is no invitation, and neither are recovery codes.
type Output struct {
	file *os.File

	mu  sync.Mutex
	err error // the first one
}

// New returns an output to a file.
func New(file *os.File) *Output { return &Output{file: file} }

// Write implements [io.Writer].
func (o *Output) Write(b []byte) (int, error) {
	n, err := o.file.Write(b)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err == nil {
			o.err = err
		}
	}
	return n, err
}

// Failed returns why something that was written to w was lost, or nil if nothing was
// or w is no Output.
func Failed(w io.Writer) error {
	o, ok := w.(*Output)
	if !ok {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Columns returns how many columns the terminal has that w leads to, or 0 if that is
// none, where lines are as long as they are.
func Columns(w io.Writer) int {
	if o, ok := w.(*Output); ok {
		w = o.file
	}
	f, ok := w.(*os.File)
	if !ok || f == nil {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width < 1 {
		return 0
	}
	return width
}
