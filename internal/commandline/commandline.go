// Package commandline is what the programs do with a command line before and after
// kong parses it.
package commandline

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// Check returns an error if an argument of the command line, or one of the
// environment variables that stand for some, is not valid UTF-8. The parser of
// command lines would put U+FFFD for what is not: a device would be enrolled
// under a name that nobody gave, and another file be written than was meant.
func Check(args []string, getenv func(string) string, variables ...string) error {
	const advice = "is not valid UTF-8: run this in a terminal that uses UTF-8; if it is the name of a file, give the file another one"
	for i, a := range args {
		if !utf8.ValidString(a) {
			return fmt.Errorf("argument %d of the command line %s", i+1, advice)
		}
	}
	for _, v := range variables {
		if !utf8.ValidString(getenv(v)) {
			return fmt.Errorf("the environment variable %s %s", v, advice)
		}
	}
	return nil
}

// Attempted returns as much of a command as the command line had of one that was
// refused with err: the program's name at least.
func Attempted(program string, err error) string {
	if wrong, ok := errors.AsType[*kong.ParseError](err); ok {
		if node := wrong.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return program
}
