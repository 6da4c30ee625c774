package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
)

// counterName is the file with the number of the last statement, in decimal
// with a line feed.
//
// The server refuses a number that did not rise, and reports that the key was
// copied. So the number is durable before anything is signed with it: a crash
// in between wastes a number, which does no harm. And a file that is missing or
// damaged is an error and never zero, which would set off that alarm.
const counterName = "counter"

// maxCounter is the largest number that every reader of JSON reads exactly.
const maxCounter = 1<<53 - 1

// startCounter makes the counter file of a new device if it has none. The
// caller holds the lock.
func startCounter(dir string) error {
	_, err := readCounter(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = writeCounter(dir, 0)
	}
	return err
}

// nextCounter returns a number larger than every one that it returned before for
// dir, in any process.
func nextCounter(dir string) (uint64, error) {
	unlock, err := lockDir(dir)
	if err != nil {
		return 0, err
	}
	defer unlock()
	last, err := readCounter(dir)
	if err != nil {
		return 0, err
	}
	if last >= maxCounter {
		return 0, damagedCounter(dir)
	}
	if err := writeCounter(dir, last+1); err != nil {
		return 0, err
	}
	return last + 1, nil
}

func readCounter(dir string) (uint64, error) {
	data, err := readFile(filepath.Join(dir, counterName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, lost(dir, "the file that counts this device's statements is gone", err)
	}
	if err != nil {
		return 0, fmt.Errorf("reading the counter: %w", err)
	}
	digits, ended := strings.CutSuffix(string(data), "\n")
	n, err := strconv.ParseUint(digits, 10, 64)
	// Spelled again and compared, so that nothing but what writeCounter
	// wrote, in full, is taken for a number.
	if err != nil || !ended || n > maxCounter || strconv.FormatUint(n, 10) != digits {
		return 0, damagedCounter(dir)
	}
	return n, nil
}

func damagedCounter(dir string) error {
	return lost(dir, "the file that counts this device's statements is damaged", errors.New(counterName))
}

func writeCounter(dir string, n uint64) error {
	if err := writeFile(dir, counterName, []byte(strconv.FormatUint(n, 10)+"\n")); err != nil {
		return fmt.Errorf("writing the counter: %w", err)
	}
	return nil
}
