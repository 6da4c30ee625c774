package meta

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// packageComplaints checks that each package says in one place what it is for,
// and has a name that says something.
func packageComplaints(files []goFile) []string {
	type pkg struct{ dir, name string }
	documented := map[pkg][]string{}
	var order []pkg
	var complaints []string
	for _, f := range files {
		if f.test {
			continue
		}
		p := pkg{f.dir, f.ast.Name.Name}
		if _, ok := documented[p]; !ok {
			documented[p] = nil
			order = append(order, p)
			if slices.Contains(namesThatSayNothing, p.name) {
				complaints = append(complaints, fmt.Sprintf("package %s: name it for what it holds", p.dir))
			}
		}
		if f.ast.Doc == nil {
			continue
		}
		documented[p] = append(documented[p], f.name)
		want := []string{"Package " + p.name + " "}
		if program := path.Base(p.dir); p.name == "main" {
			want = []string{"Command " + program + " ", strings.ToUpper(program[:1]) + program[1:] + " "}
		}
		if !slices.ContainsFunc(want, func(begin string) bool { return strings.HasPrefix(f.ast.Doc.Text(), begin) }) {
			complaints = append(complaints, fmt.Sprintf("%s: the package comment must begin with %q", f.name, want))
		}
	}
	for _, p := range order {
		switch n := len(documented[p]); {
		case n == 0:
			complaints = append(complaints, fmt.Sprintf("package %s has no package comment", p.dir))
		case n > 1:
			complaints = append(complaints, fmt.Sprintf("package %s has package comments in %s", p.dir, strings.Join(documented[p], " and ")))
		}
	}
	return complaints
}

var namesThatSayNothing = []string{"util", "utils", "common", "types", "helper", "helpers", "manager", "misc", "shared"}

func TestPackages(t *testing.T) {
	expectNone(t, packageComplaints(loadTree(t).goFiles(t)))
}

func TestPackagesFindsBadOnes(t *testing.T) {
	tr := tree{
		"internal/none/a.go":      "package none\n",
		"internal/none/a_test.go": "// Package none is told of in a test only.\npackage none\n",
		"internal/two/a.go":       "// Package two is.\npackage two\n",
		"internal/two/b.go":       "// Package two is, again.\npackage two\n",
		"internal/apart/a.go":     "// Package apart is.\n\npackage apart\n",
		"internal/wrong/a.go":     "// This package is.\npackage wrong\n",
		"internal/util/a.go":      "// Package util is.\npackage util\n",
		"server/cmd/x/main.go":    "// Package main is.\npackage main\n",
		"server/cmd/y/main.go":    "// Command y is.\npackage main\n",
		"server/cmd/z/main.go":    "// Z is.\npackage main\n",
		"internal/good/a.go":      "// Package good is.\npackage good\n",
		"internal/good/b.go":      "package good\n",
		"internal/good/c_test.go": "package good_test\n",
	}
	expect(t, packageComplaints(tr.goFiles(t)), []string{
		"package internal/util: name it for what it holds",
		`internal/wrong/a.go: the package comment must begin with ["Package wrong "]`,
		`server/cmd/x/main.go: the package comment must begin with ["Command x " "X "]`,
		"package internal/apart has no package comment",
		"package internal/none has no package comment",
		"package internal/two has package comments in internal/two/a.go and internal/two/b.go",
	})
}

// skipComplaints finds tests that can excuse themselves. What a test needs is
// installed by make test; what is missing must fail.
func skipComplaints(tr tree, files []goFile) []string {
	var complaints []string
	for _, f := range files {
		if !f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				complaints = append(complaints, fmt.Sprintf("%s: a test that skips proves nothing", f.fset.Position(sel.Sel.Pos())))
			}
			return true
		})
	}
	for _, name := range tr.sorted(func(name string) bool { return path.Ext(name) == ".txt" && strings.Contains(name, "/testdata/") }) {
		for i, line := range strings.Split(tr[name], "\n") {
			if strings.HasPrefix(line, "-- ") {
				break // the script ends where its files begin
			}
			if words := strings.Fields(line); slices.Contains(words, "skip") && !strings.HasPrefix(words[0], "#") {
				complaints = append(complaints, fmt.Sprintf("%s:%d: a script that skips proves nothing", name, i+1))
			}
		}
	}
	return complaints
}

func TestNoSkips(t *testing.T) {
	tr := loadTree(t)
	expectNone(t, skipComplaints(tr, tr.goFiles(t)))
}

func TestNoSkipsFindsBadOnes(t *testing.T) {
	tr := tree{
		"server/a_test.go":                  "package server\nfunc f(t T) {\n\tt.Skip(1)\n\tt.Run(func(t T) { t.SkipNow() })\n}\n",
		"server/b_test.go":                  "package server\nfunc Skip() {}\n",
		"server/c.go":                       "package server\nfunc f() { fs.Skip() }\n",
		"internal/stories/testdata/s01.txt": "# skip nothing\nexec a\n[!net] skip 'no net'\n-- f --\nskip\n",
	}
	expect(t, skipComplaints(tr, tr.goFiles(t)), []string{
		"server/a_test.go:3:4: a test that skips proves nothing",
		"server/a_test.go:4:22: a test that skips proves nothing",
		"internal/stories/testdata/s01.txt:3: a script that skips proves nothing",
	})
}
