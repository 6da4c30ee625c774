package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// unitFile is what systemd runs the server by.
const unitFile = "../../packaging/countersign-server.service"

// maxExposure is what systemd-analyze must call the unit's exposure at most, in
// tenths: it must be under 2.0.
const maxExposure = "19"

// judge has the unit's hardening judged by systemd, which needs none that runs.
func judge(unit string) (string, error) {
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+maxExposure, unit).CombinedOutput()
	return string(out), err
}

// changed writes the unit into a directory of its own, with words in it replaced.
func changed(t *testing.T, replacements ...string) (unit string) {
	t.Helper()
	data, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(replacements...).Replace(string(data))
	if text == string(data) {
		t.Fatalf("the unit has none of %q", replacements)
	}
	unit = filepath.Join(t.TempDir(), filepath.Base(unitFile))
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return unit
}

func TestUnitIsHardened(t *testing.T) {
	if out, err := judge(unitFile); err != nil || !strings.Contains(out, "Overall exposure level") {
		t.Errorf("systemd-analyze security: %v\n%s\nWithout systemd-analyze, run make test-packages.", err, out)
	}
	if out, err := judge(changed(t, "SystemCallFilter=", "# ", "PrivateDevices=yes", "")); err == nil {
		t.Errorf("systemd-analyze security finds nothing in a unit without its filter of calls:\n%s", out)
	}
}

func TestUnitIsUnderstood(t *testing.T) {
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(unit string) string {
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return string(out)
	}
	start := []string{"ExecStart=" + program, "ExecStart=" + path}
	if out := verify(changed(t, start...)); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	if out := verify(changed(t, append(start, "NoNewPrivileges=", "NoNewPrivilege=")...)); out == "" {
		t.Error("systemd-analyze verify finds nothing in a unit with a setting that does not exist")
	}
}

// What the unit starts is this program with flags that it has, and the file beside it
// has settings that it knows, also where they are commented out.
func TestUnitStartsThisProgram(t *testing.T) {
	data, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^ExecStart=` + program + ` (.*)$`).FindStringSubmatch(string(data))
	if m == nil {
		t.Fatalf("the unit does not run %s", program)
	}
	var c cli
	args := strings.Fields(strings.ReplaceAll(m[1], "%S", "/var/lib"))
	if _, err := kong.Must(&c, kong.Vars{"data_dir": ""}).Parse(args); err != nil {
		t.Fatalf("the unit runs %s with %q: %v", program, args, err)
	}
	if c.DataDir != "/var/lib/countersign" || filepath.Base(c.Serve.Config) != "countersign-server.toml" {
		t.Errorf("the unit's data are in %s, its settings in %s", c.DataDir, c.Serve.Config)
	}
	data, err = os.ReadFile("../../packaging/" + filepath.Base(c.Serve.Config))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"as it is":           string(data),
		"with what it shows": regexp.MustCompile(`(?m)^# (\w+ = )`).ReplaceAllString(string(data), "$1"),
	} {
		file := filepath.Join(t.TempDir(), "settings.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := readSettings(file)
		if err == nil {
			err = s.over(builtIn()).check()
		}
		if err != nil {
			t.Errorf("the example of settings, %s: %v", name, err)
		}
	}
}

// The user that the unit names is the one that is made.
func TestUnitsUserIsMade(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := filepath.Abs("../../packaging/countersign-server.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-sysusers", "--root="+root, file).CombinedOutput(); err != nil {
		t.Fatalf("systemd-sysusers: %v\n%s", err, out)
	}
	passwd, err := os.ReadFile(filepath.Join(root, "etc", "passwd"))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^countersign:.*:/var/lib/countersign:\S+/nologin$`).Match(passwd) {
		t.Errorf("systemd-sysusers made\n%s\nwant a user countersign that cannot log in", passwd)
	}
}
