package meta

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// statusNames are the names of gRPC's status codes, OK left out.
var statusNames = strings.Fields(`CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS
	PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE
	DATA_LOSS UNAUTHENTICATED`)

var (
	reasonValue = regexp.MustCompile(`^ *ERROR_REASON_([A-Z0-9_]+) = ([0-9]+);`)
	rpcLine     = regexp.MustCompile(`^ *rpc ([A-Za-z]+)\(`)
	errorsList  = regexp.MustCompile(`Errors: ([^.]+)\.`)
	aside       = regexp.MustCompile(` \([^)]*\)`)
)

// apiComplaints checks what buf cannot: each error reason names the gRPC status
// it comes with, and each RPC tells its errors, which exist, and who may call.
func apiComplaints(tr tree) []string {
	var complaints []string
	protos := tr.sorted(func(name string) bool { return path.Ext(name) == ".proto" })
	var reasons []string
	eachComment(tr, protos, func(name, line, comment string) {
		m := reasonValue.FindStringSubmatch(line)
		if m == nil || m[2] == "0" {
			return
		}
		reasons = append(reasons, m[1])
		status, _, _ := strings.Cut(comment, " ")
		if !slices.Contains(statusNames, strings.TrimSuffix(status, ".")) {
			complaints = append(complaints, fmt.Sprintf("%s: the comment of %s must begin with a gRPC status", name, m[1]))
		}
	})
	eachComment(tr, protos, func(name, line, comment string) {
		m := rpcLine.FindStringSubmatch(line)
		if m == nil {
			return
		}
		last := strings.LastIndex(comment, "The caller must ")
		if last < 0 || strings.Contains(strings.TrimSuffix(comment[last:], "."), ". ") {
			complaints = append(complaints, fmt.Sprintf(`%s: the comment of %s must end with "The caller must …"`, name, m[1]))
		}
		list := errorsList.FindStringSubmatch(comment)
		if list == nil {
			complaints = append(complaints, fmt.Sprintf(`%s: the comment of %s must say "Errors: …"`, name, m[1]))
			return
		}
		for _, reason := range strings.Split(aside.ReplaceAllString(list[1], ""), ", ") {
			if !slices.Contains(reasons, reason) {
				complaints = append(complaints, fmt.Sprintf("%s: %s names the error %s, which does not exist", name, m[1], reason))
			}
		}
	})
	return complaints
}

// eachComment calls visit for each line with the // comment right above it, as
// one line of text.
func eachComment(tr tree, names []string, visit func(name, line, comment string)) {
	for _, name := range names {
		var comment []string
		for _, line := range strings.Split(tr[name], "\n") {
			if text, ok := strings.CutPrefix(strings.TrimSpace(line), "//"); ok {
				comment = append(comment, strings.TrimSpace(text))
				continue
			}
			visit(name, line, strings.Join(comment, " "))
			comment = nil
		}
	}
}

func TestAPI(t *testing.T) {
	expectNone(t, apiComplaints(loadTree(t)))
}

func TestAPIFindsBadOnes(t *testing.T) {
	const proto = `
enum ErrorReason {
  // Never sent.
  ERROR_REASON_UNSPECIFIED = 0;
  // NOT_FOUND. There is none.
  ERROR_REASON_GONE = 1;
  // ABORTED or CANCELLED. Either.
  ERROR_REASON_EITHER = 2;
  // The disk is full.
  ERROR_REASON_FULL = 3;
  ERROR_REASON_SILENT = 4;
}
service S {
  // A does.
  //
  // Errors: GONE,
  // EITHER (also later).
  //
  // The caller must be known.
  rpc A(Q) returns (R);
  // B does. The caller must be known. It may go on.
  //
  // Errors: LOST.
  rpc B(Q) returns (R);
  // The caller must be known.
  rpc C(Q) returns (R);
}
`
	expect(t, apiComplaints(tree{"proto/a.proto": proto}), []string{
		"proto/a.proto: the comment of FULL must begin with a gRPC status",
		"proto/a.proto: the comment of SILENT must begin with a gRPC status",
		`proto/a.proto: the comment of B must end with "The caller must …"`,
		"proto/a.proto: B names the error LOST, which does not exist",
		`proto/a.proto: the comment of C must say "Errors: …"`,
	})
}
