package output

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestFailed(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	out := New(file)
	if _, err := io.WriteString(out, "said"); err != nil {
		t.Fatal(err)
	}
	if err := Failed(out); err != nil {
		t.Errorf("Failed = %v, want nil", err)
	}
	file.Close()
	io.WriteString(out, "lost") // which is what Failed is to tell
	if err := Failed(out); err == nil {
		t.Error("Failed = nil after something was lost")
	}
	if said, err := os.ReadFile(file.Name()); err != nil || string(said) != "said" {
		t.Errorf("what was written is %q, %v", said, err)
	}
	if err := Failed(io.Discard); err != nil {
		t.Errorf("Failed of another writer = %v, want nil", err)
	}
}

func TestColumnsOfWhatIsNoTerminal(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, w := range map[string]io.Writer{"a file": file, "an output to one": New(file), "a buffer": new(bytes.Buffer), "no file": (*os.File)(nil)} {
		if n := Columns(w); n != 0 {
			t.Errorf("Columns of %s = %d, want 0", name, n)
		}
	}
}
