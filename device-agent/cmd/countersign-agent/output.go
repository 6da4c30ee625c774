package main

import (
	"os"
	"sync"
)

// An output is standard output. It remembers that something could not be written,
// because a command is not done if nobody can have read what it said: recovery codes
// that were lost are none.
type output struct {
	file *os.File

	mu  sync.Mutex
	err error // the first one
}

// Write implements [io.Writer].
func (o *output) Write(b []byte) (int, error) {
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

// failed returns why something could not be written, or nil.
func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
