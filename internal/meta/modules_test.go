package meta

import (
	"fmt"
	"strings"
	"testing"
)

// modules lists every module that go.mod may require, with what it is for. A
// new one comes with a page in docs/decisions that says why.
var modules = map[string]string{
	// Linked into the programs.
	"google.golang.org/grpc":                    "the transport of the API",
	"google.golang.org/protobuf":                "the messages of the API",
	"google.golang.org/genproto/googleapis/rpc": "ErrorInfo, the detail that every error of the API carries",
	"go.etcd.io/bbolt":                          "the embedded store",
	"github.com/alecthomas/kong":                "the command lines",
	"github.com/BurntSushi/toml":                "the configuration file",
	"golang.org/x/time":                         "rate limits at the unauthenticated edge",
	"golang.org/x/term":                         "a prompt's keys, and passphrases that are not echoed",
	"golang.org/x/text":                         "Unicode normalization of what people are shown",
	"rsc.io/qr":                                 "the QR code of an invitation",
	"filippo.io/age":                            "keys on disk under a passphrase",
	"github.com/sideshow/apns2":                 "wake-ups through Apple's push notification service",
	"golang.org/x/mod":                          "the Merkle tree over the record (sumdb/tlog)",
	"github.com/prometheus/client_golang":       "metrics",
	"golang.org/x/net":                          "a listener with a bounded number of connections; raw HTTP/2 frames, in tests of the transport's edge; raised for what pins an older one",

	// Tests only.
	"github.com/google/go-cmp":          "readable differences",
	"pgregory.net/rapid":                "state machines against a model",
	"github.com/anishathalye/porcupine": "histories that must be linearizable",
	"github.com/rogpeppe/go-internal":   "scripts through the real programs (testscript)",
	"github.com/go-jose/go-jose/v4":     "an independent reader and writer of our statements and grants",

	// Required by those above.
	"filippo.io/hpke":                    "filippo.io/age",
	"github.com/beorn7/perks":            "client_golang",
	"github.com/cespare/xxhash/v2":       "client_golang",
	"github.com/golang-jwt/jwt/v4":       "apns2; raised for the vulnerabilities of what it pins",
	"github.com/munnerz/goautoneg":       "client_golang",
	"github.com/prometheus/client_model": "client_golang",
	"github.com/prometheus/common":       "client_golang",
	"github.com/prometheus/procfs":       "client_golang",
	"golang.org/x/crypto":                "filippo.io/age",
	"golang.org/x/sys":                   "golang.org/x/term and bbolt",
	"golang.org/x/tools":                 "testscript",
}

// desktopModules lists what the desktop's go.mod may require directly, with what it is
// for. What these require in turn is not linked into any other program.
var desktopModules = map[string]string{
	module:                            "the agent, as it lies beside it",
	"fyne.io/fyne/v2":                 "windows",
	"github.com/go-gl/glfw/v3.4/glfw": "windows that leave the keyboard where it is",
	"golang.org/x/image":              "the map; raised for what the toolkit pins",
	"golang.org/x/text":               "the order of the letters in a line; raised for what the toolkit pins",
	"google.golang.org/protobuf":      "times in the list of devices",
	"github.com/godbus/dbus/v5":       "notifications by the service of the desktop",
	"golang.org/x/sys":                "one instance, on Windows",
	"github.com/alecthomas/kong":      "the command line",
	"github.com/google/go-tpm":        "keys in a TPM",
	"github.com/zalando/go-keyring":   "keys that a keyring encrypts",

	// Tests only.
	"github.com/google/go-cmp":       "readable differences",
	"pgregory.net/rapid":             "hostile names",
	"github.com/go-text/typesetting": "which letters the fonts have",
}

// raised are the versions in the desktop's go.mod that it must not fall below: what the
// toolkit asks for itself has known vulnerabilities.
var raised = []string{"golang.org/x/image v0.45.0", "golang.org/x/net v0.62.0", "golang.org/x/text v0.43.0"}

func TestDesktopModule(t *testing.T) {
	goMod := loadTree(t)["device-agent/desktop/go.mod"]
	const beside = "replace " + module + " => ../..\n"
	if !strings.HasPrefix(goMod, "module "+module+"/device-agent/desktop\n") || !strings.Contains(goMod, beside) {
		t.Fatal("device-agent/desktop/go.mod is not that of the desktop, with the root's module beside it")
	}
	var direct strings.Builder
	for line := range strings.Lines(strings.Replace(goMod, beside, "", 1)) {
		if !strings.HasSuffix(line, "// indirect\n") {
			direct.WriteString(line)
		}
	}
	expectNone(t, moduleComplaints(direct.String(), desktopModules))
	for _, want := range raised {
		if !strings.Contains(goMod, "\t"+want) {
			t.Errorf("device-agent/desktop/go.mod does not require %s", want)
		}
	}
}

// moduleComplaints finds modules that nobody decided to depend on.
func moduleComplaints(goMod string, allowed map[string]string) []string {
	var complaints []string
	inBlock := false
	for line := range strings.Lines(goMod) {
		line, _, _ = strings.Cut(line, "//")
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "require" && len(words) == 2 && words[1] == "(":
			inBlock = true
		case words[0] == ")":
			inBlock = false
		case words[0] == "replace", words[0] == "tool":
			complaints = append(complaints, fmt.Sprintf("go.mod has a %s directive", words[0]))
		case words[0] == "require":
			words = words[1:]
			fallthrough
		case inBlock:
			if allowed[words[0]] == "" {
				complaints = append(complaints, fmt.Sprintf("go.mod requires %s, which is not decided upon", words[0]))
			}
		}
	}
	return complaints
}

// raisedHere is the same for this module.
var raisedHere = []string{"github.com/golang-jwt/jwt/v4 v4.5.2", "golang.org/x/net v0.62.0", "golang.org/x/text v0.43.0"}

func TestModules(t *testing.T) {
	tr := loadTree(t)
	if !strings.HasPrefix(tr["go.mod"], "module "+module+"\n") {
		t.Fatalf("go.mod is not that of %s", module)
	}
	expectNone(t, moduleComplaints(tr["go.mod"], modules))
	for _, want := range raisedHere {
		if !strings.Contains(tr["go.mod"], "\t"+want) {
			t.Errorf("go.mod does not require %s", want)
		}
	}
}

func TestModulesFindsBadOnes(t *testing.T) {
	const goMod = `module m

go 1.26.0

tool example.org/tool

require example.org/single v1.0.0
require (
	example.org/good v1.2.3
	example.org/bad v0.1.0 // indirect
)

replace example.org/good => ../good
`
	expect(t, moduleComplaints(goMod, map[string]string{"example.org/good": "being good"}), []string{
		"go.mod has a tool directive",
		"go.mod requires example.org/single, which is not decided upon",
		"go.mod requires example.org/bad, which is not decided upon",
		"go.mod has a replace directive",
	})
}
