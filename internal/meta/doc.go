// Package meta holds the rules of the tree, as tests: which package may import
// which, what every package and page must say, what must not be found
// anywhere.
//
// Each rule is a function from a tree to complaints, one line each. It is run
// on this repository, where it must find nothing, and on a small tree made to
// break it, where it must find exactly what is wrong; so a rule that cannot
// fail does not pass. The rules read files and nothing else: no git, no go command.
package meta
