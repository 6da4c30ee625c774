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
//	forge OLD NEW                     make the record anew with another address in it
//
// and these for push services, of which a script has one of each kind at most. They
// are real, and on this machine; the server trusts them by SSL_CERT_FILE.
//
//	web-push                          start one for Web Push
//	subscribe NAME KEY                subscribe a device there for a server's key, and set
//	                                  ENDPOINT, P256DH and AUTH to what it must register
//	pushed NAME asked|over            wait for its next wake-up, which says just that
//	expire NAME                       end its subscription
//	answer STATUS|nothing|itself      what the service answers from now on
//	requests NUMBER                   wait until it was asked so often, and not more often
//	apns                              start Apple's: the address in APNS, keys in apns.p8
//	                                  and stranger.p8
//	register-apns NAME DIR            have the device in the directory register there
//	apns-pushed NAME alert|background|REASON
//	                                  wait for the next push to it, or its refusal
//	lose NAME SECONDS-AGO             remove its program, so long ago
//	apns-answer STATUS REASON         refuse the next push so
//
// What a program has printed is kept when it has ended, and is shown when a
// script fails.
//
// [testscript]: https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript
package stories
