package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrPart is returned by [VerifyExport] for an export that has no checkpoint: one
// that was made with a filter, or whose end is cut off.
var ErrPart = errors.New("the export does not end with a checkpoint: it holds a part of the record, or its end was cut off. Export the record anew, without a filter")

// checkpointMark is how the last line of an export begins, and no document does.
var checkpointMark = []byte(`{"checkpoint":`)

// VerifyExport checks an export, which it reads once and does not keep. The error
// is one of reading, or [ErrPart]; what is wrong with the record is in the
// result, which is good in both cases as far as it goes.
func VerifyExport(r io.Reader, remembered ...Checkpoint) (Result, error) {
	v, err := NewVerifier(remembered...)
	if err != nil {
		return Result{}, err
	}
	lines := bufio.NewReaderSize(r, MaxDocument+2)
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			if len(line) > 0 {
				v.find(v.next, "its line is cut off")
			}
			return v.unfinished(), ErrPart
		case errors.Is(err, bufio.ErrBufferFull):
			v.find(v.next, "its line is longer than any document")
			return v.unfinished(), ErrPart
		case err != nil:
			return v.unfinished(), fmt.Errorf("reading the export: %w", err)
		}
		line = line[:len(line)-1]
		if !bytes.HasPrefix(line, checkpointMark) {
			v.Add(line)
			continue
		}
		c, err := ParseCheckpoint(line)
		if err != nil {
			v.find(0, "its last line is %v", err)
			return v.unfinished(), nil
		}
		if _, err := lines.ReadByte(); !errors.Is(err, io.EOF) {
			v.find(0, "something follows its checkpoint, which nobody has signed")
		}
		return v.Finish(c), nil
	}
}

// unfinished returns what was found in a record that has no checkpoint.
func (v *Verifier) unfinished() Result {
	v.result.Statements = v.trust.statements
	return v.result
}
