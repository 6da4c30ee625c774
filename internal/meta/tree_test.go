package meta

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// module is the import path of the tree's root.
const module = "github.com/countersignd/countersign"

// tree is a source tree: file contents by slash-separated path from its root.
// What is built or fetched into a checkout, and is not part of it, is left out.
type tree map[string]string

// loadTree reads the repository this test lies in.
func loadTree(t *testing.T) tree {
	t.Helper()
	root, err := os.OpenRoot("../..")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	files := tree{}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && notOurs(name):
			return fs.SkipDir
		case !d.Type().IsRegular() || notOurs(name):
			return nil
		}
		data, err := root.ReadFile(name)
		switch {
		case err != nil:
		case utf8.Valid(data):
			files[name] = string(data)
		case !isDrawn(name):
			t.Errorf("%s is neither a text, a picture nor a font: if it is a program that was built here, remove it", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("found no files")
	}
	return files
}

// isDrawn reports whether a file is a picture or a font.
func isDrawn(name string) bool { return path.Ext(name) == ".png" || path.Ext(name) == ".ttf" }

// notOurs says whether .gitignore keeps the file or directory out of the tree.
func notOurs(name string) bool {
	switch path.Base(name) {
	case ".git", ".tools", ".bin", "node_modules":
		return true
	}
	return name == "bin" || strings.HasSuffix(name, ".test") || strings.HasSuffix(name, ".prof")
}

// sorted returns the files' names in order, those for which keep is true.
func (tr tree) sorted(keep func(name string) bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(tr)), func(name string) bool { return !keep(name) })
}

// goFile is one parsed Go file.
type goFile struct {
	name      string // from the tree's root
	dir       string // its directory; "." for the root
	test      bool   // named _test.go
	generated bool
	ast       *ast.File
	fset      *token.FileSet
}

// goFiles parses the tree's Go files, those of modules of their own left out.
func (tr tree) goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	fset := token.NewFileSet()
	for _, name := range tr.sorted(func(name string) bool { return strings.HasSuffix(name, ".go") && !tr.inOtherModule(name) }) {
		f, err := parser.ParseFile(fset, name, tr[name], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, goFile{
			name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
			generated: ast.IsGenerated(f), ast: f, fset: fset,
		})
	}
	return files
}

func (tr tree) inOtherModule(name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := tr[dir+"/go.mod"]; ok {
			return true
		}
	}
	return false
}

// within says whether the package directory dir is root or lies below it.
func within(dir, root string) bool {
	return dir == root || strings.HasPrefix(dir, root+"/")
}
