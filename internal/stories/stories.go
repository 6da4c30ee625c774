// Package stories plays the situations that Countersign exists for through its
// real binaries: a server, agents and applications as processes of their own,
// over real TLS and a real store. Each story is a script in testdata that a
// person can read, named by its number: s01 is the sign-in on a new device that
// everything serves.
//
// The scripts are those of [testscript], with these commands beside its own:
//
//	start NAME PROGRAM [ARGUMENT …]   begin a program that goes on in the background
//	await NAME REGEXP                 wait until its output, from here on, matches
//	never NAME REGEXP                 its output so far does not match
//	type NAME [WORD …]                give it a line to read
//	ended NAME CODE                   wait until it has ended with the exit code
//	signal NAME kill|term|stop|cont   send it a signal
//	capture VAR NAME REGEXP           set VAR to what the group in the regexp matched
//	                                  in its output; NAME may be stdout, for the last exec
//	remember VAR                      set VAR to the time in milliseconds
//	within VAR MILLISECONDS           less than that has passed since
//
// What a program has printed is kept when it has ended, and is shown when a
// script fails.
//
// [testscript]: https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript
package stories
