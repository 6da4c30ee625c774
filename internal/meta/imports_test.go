package meta

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// importsOf returns the import paths of a file, with those of this module
// shortened to their directory: "./server/approval".
func importsOf(f goFile) []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		if dir, ok := strings.CutPrefix(p, module+"/"); ok {
			p = "./" + dir
		}
		paths = append(paths, p)
	}
	return paths
}

// importRule forbids imports. In files that are no tests it holds through the
// packages of this module that are imported on the way; for tests, which may
// use test kits, it looks at what they import themselves.
type importRule struct {
	why   string
	from  func(f goFile) bool        // the files it holds for
	allow func(imported string) bool // what these may import
}

// importRules is docs and design in one place: who may know whom.
var importRules = []importRule{{
	why:   "the agent and the server share only what both must agree on",
	from:  func(f goFile) bool { return within(f.dir, "device-agent") },
	allow: func(p string) bool { return !within(p, "./server") },
}, {
	why:   "the agent and the server share only what both must agree on",
	from:  func(f goFile) bool { return within(f.dir, "server") },
	allow: func(p string) bool { return !within(p, "./device-agent") },
}, {
	why:  "the rules of the heart know no transport and no database",
	from: func(f goFile) bool { return within(f.dir, "server/approval") && !f.test },
	allow: func(p string) bool {
		for _, bad := range []string{"google.golang.org", "go.etcd.io/bbolt", "net/http", "./proto", "connectrpc.com"} {
			if within(p, bad) {
				return false
			}
		}
		return true
	},
}, {
	why:  "one package knows the database",
	from: func(f goFile) bool { return f.dir == "server" && !f.test },
	allow: func(p string) bool {
		return !within(p, "./server/boltstore") && !within(p, "./server/apns") && !within(p, "./server/webpush")
	},
}, {
	why:  "what is signed rests on the standard library alone",
	from: func(f goFile) bool { return within(f.dir, "internal/statement") && !f.test },
	allow: func(p string) bool {
		return isStandard(p) || p == "./internal/pin" || p == "./internal/statement"
	},
}, {
	why: "what both sides share belongs to neither",
	from: func(f goFile) bool {
		return within(f.dir, "internal") && !slices.ContainsFunc(wholeSystem, func(dir string) bool { return within(f.dir, dir) })
	},
	allow: func(p string) bool { return !within(p, "./server") && !within(p, "./device-agent") },
}, {
	why:  "test kits are for tests",
	from: func(f goFile) bool { return !f.test && !within(f.dir, "internal/countersigntest") },
	allow: func(p string) bool {
		return p != "./server/approval/storetest" && p != "./server/apns/apnstest" && p != "./server/webpush/webpushtest" &&
			p != "./internal/countersigntest"
	},
}}

// wholeSystem lists the packages that put server and agent together.
var wholeSystem = []string{"internal/bench", "internal/countersigntest", "internal/stories", "internal/demo"}

// directImportRules are those that a package in between may bridge.
var directImportRules = []importRule{{
	why:   "one package knows the database",
	from:  func(f goFile) bool { return f.dir != "server/boltstore" && f.dir != "internal/bench" }, // which measures one by the other
	allow: func(p string) bool { return !within(p, "go.etcd.io/bbolt") },
}}

func isStandard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return first != "." && !strings.Contains(first, ".")
}

func importComplaints(files []goFile) []string {
	graph := map[string][]string{} // what a package's files that are no tests import, by "./dir"
	for _, f := range files {
		if !f.test {
			graph["./"+f.dir] = append(graph["./"+f.dir], importsOf(f)...)
		}
	}
	var complaints []string
	complain := func(f goFile, rule importRule, reach func(string) []string) {
		for _, direct := range importsOf(f) {
			for _, p := range reach(direct) {
				if rule.allow(p) {
					continue
				}
				via := ""
				if p != direct {
					via = " through " + direct
				}
				complaints = append(complaints, fmt.Sprintf("%s imports %s%s: %s", f.name, p, via, rule.why))
			}
		}
	}
	itself := func(p string) []string { return []string{p} }
	everything := func(p string) []string { return reachable(graph, p) }
	for _, f := range files {
		for _, rule := range importRules {
			switch {
			case !rule.from(f):
			case f.test:
				complain(f, rule, itself)
			default:
				complain(f, rule, everything)
			}
		}
		for _, rule := range directImportRules {
			if rule.from(f) {
				complain(f, rule, itself)
			}
		}
	}
	return complaints
}

// reachable returns p and all that it imports through packages of this module.
func reachable(graph map[string][]string, p string) []string {
	seen := []string{p}
	for i := 0; i < len(seen); i++ {
		for _, next := range graph[seen[i]] {
			if !slices.Contains(seen, next) {
				seen = append(seen, next)
			}
		}
	}
	return seen
}

func TestImports(t *testing.T) {
	expectNone(t, importComplaints(loadTree(t).goFiles(t)))
}

func TestImportsFindsBadOnes(t *testing.T) {
	file := func(pkg string, imports ...string) string {
		text := "package " + pkg + "\n"
		for _, p := range imports {
			text += fmt.Sprintf("import %q\n", strings.Replace(p, "./", module+"/", 1))
		}
		return text
	}
	const neither = "the agent and the server share only what both must agree on"
	const heart = "the rules of the heart know no transport and no database"
	const oneDB = "one package knows the database"
	const shared = "what both sides share belongs to neither"
	const kits = "test kits are for tests"
	const signed = "what is signed rests on the standard library alone"
	tests := []struct {
		name string
		tree tree
		want []string
	}{
		{"agent knows server", tree{"device-agent/agent/a.go": file("agent", "./server/approval")},
			[]string{"device-agent/agent/a.go imports ./server/approval: " + neither}},
		{"agent's test knows server", tree{"device-agent/agent/a_test.go": file("agent", "./server")},
			[]string{"device-agent/agent/a_test.go imports ./server: " + neither}},
		{"server knows agent", tree{"server/web/w.go": file("web", "./device-agent/keystore")},
			[]string{"server/web/w.go imports ./device-agent/keystore: " + neither}},
		{"server knows agent on a detour", tree{
			"server/s.go":        file("server", "./proto/x"),
			"proto/x/x.go":       file("x", "./device-agent/agent"),
			"device-agent/a/a.g": "not Go",
		}, []string{"server/s.go imports ./device-agent/agent through ./proto/x: " + neither}},
		{"heart knows http", tree{"server/approval/a.go": file("approval", "net/http", "net/netip")},
			[]string{"server/approval/a.go imports net/http: " + heart}},
		{"heart knows protobuf on a detour", tree{
			"server/approval/a.go": file("approval", "./internal/code"),
			"internal/code/c.go":   file("code", "google.golang.org/protobuf/proto"),
		}, []string{"server/approval/a.go imports google.golang.org/protobuf/proto through ./internal/code: " + heart}},
		{"heart's kit knows generated code", tree{"server/approval/storetest/s.go": file("storetest", "./proto/countersign/v1")},
			[]string{"server/approval/storetest/s.go imports ./proto/countersign/v1: " + heart}},
		{"a main knows bbolt", tree{"server/cmd/countersign-server/main.go": file("main", "go.etcd.io/bbolt")},
			[]string{"server/cmd/countersign-server/main.go imports go.etcd.io/bbolt: " + oneDB}},
		{"server knows its store", tree{"server/s.go": file("server", "./server/boltstore")},
			[]string{"server/s.go imports ./server/boltstore: " + oneDB}},
		{"server knows push", tree{"server/s.go": file("server", "./server/apns")},
			[]string{"server/s.go imports ./server/apns: " + oneDB}},
		{"server knows another push", tree{"server/s.go": file("server", "./server/webpush")},
			[]string{"server/s.go imports ./server/webpush: " + oneDB}},
		{"statement leans on a library", tree{"internal/statement/s.go": file("statement", "crypto/ecdsa", "./internal/pin", "golang.org/x/text/unicode/norm")},
			[]string{"internal/statement/s.go imports golang.org/x/text/unicode/norm: " + signed}},
		{"pin leans on a library, so statement does", tree{
			"internal/statement/s.go": file("statement", "./internal/pin"),
			"internal/pin/p.go":       file("pin", "example.org/x"),
		}, []string{"internal/statement/s.go imports example.org/x through ./internal/pin: " + signed}},
		{"a push service rests on its fake", tree{"server/webpush/w.go": file("webpush", "./server/webpush/webpushtest")},
			[]string{"server/webpush/w.go imports ./server/webpush/webpushtest: " + kits}},
		{"shared code takes a side", tree{"internal/code/c.go": file("code", "./server/approval")},
			[]string{"internal/code/c.go imports ./server/approval: " + shared}},
		{"a program rests on a test kit", tree{"server/cmd/countersign-server/main.go": file("main", "./server/approval/storetest")},
			[]string{"server/cmd/countersign-server/main.go imports ./server/approval/storetest: " + kits}},
		{"a program rests on the tests' APNs", tree{"server/apns/a.go": file("apns", "./server/apns/apnstest")},
			[]string{"server/apns/a.go imports ./server/apns/apnstest: " + kits}},
		{"all as it should be", tree{
			"device-agent/agent/a.go":              file("agent", "./internal/statement", "./proto/countersign/v1"),
			"device-agent/agent/a_test.go":         file("agent", "./internal/countersigntest"),
			"internal/countersigntest/c.go":        file("countersigntest", "./server", "./device-agent/agent", "./server/boltstore", "./server/webpush/webpushtest"),
			"server/s.go":                          file("server", "./server/approval", "google.golang.org/grpc"),
			"server/approval/a_test.go":            file("approval", "./server/boltstore", "./server/approval/storetest"),
			"server/boltstore/b.go":                file("boltstore", "go.etcd.io/bbolt", "./server/approval"),
			"server/cmd/countersign-server/m.go":   file("main", "./server", "./server/boltstore"),
			"internal/statement/s.go":              file("statement", "encoding/json", "./internal/pin"),
			"internal/statement/s_test.go":         file("statement", "github.com/go-jose/go-jose/v4"),
			"tools/go.mod":                         "module tools\n",
			"tools/t.go":                           file("tools", "go.etcd.io/bbolt"),
			"proto/countersign/v1/device.pb.go":    file("countersignv1", "google.golang.org/protobuf/proto"),
			"device-agent/cmd/countersign-agent/m": "not Go either",
		}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			expect(t, importComplaints(test.tree.goFiles(t)), test.want)
		})
	}
}
