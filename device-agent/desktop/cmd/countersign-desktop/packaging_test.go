package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestDesktopFiles has the files checked by the tool that desktops use, and their
// command lines by this program.
func TestDesktopFiles(t *testing.T) {
	files, err := filepath.Glob("../../packaging/*")
	if err != nil || len(files) != 3 {
		t.Fatalf("packaging has %d files, %v, want 3", len(files), err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, ".desktop") {
			if out, err := exec.Command("desktop-file-validate", name).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("desktop-file-validate %s: %v\n%s", name, err, out)
			}
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for line := range strings.Lines(string(data)) {
			command, ok := strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(line, "ExecStart=")), program)
			if !ok && strings.HasPrefix(line, "Exec=") {
				command, ok = strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(line, "Exec=")), program)
			}
			if !ok {
				continue
			}
			found = true
			var c cli
			args := strings.Fields(strings.ReplaceAll(command, "%u", "countersign://host:1/enroll"))
			if _, err := kong.Must(&c, kong.Vars{"dir": "/", "version": ""}).Parse(args); err != nil {
				t.Errorf("%s runs %s with %q: %v", name, program, args, err)
			}
		}
		if !found {
			t.Errorf("%s does not run %s", name, program)
		}
	}
}

func TestIconsAreXML(t *testing.T) {
	for _, icon := range [][]byte{iconSVG, iconAwaySVG} {
		decoder := xml.NewDecoder(strings.NewReader(string(icon)))
		elements := 0
		for {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := token.(xml.StartElement); ok {
				elements++
			}
		}
		if elements != 4 {
			t.Errorf("the icon has %d elements, want 4", elements)
		}
	}
}
