package main

import (
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/countersignd/countersign/server"

	pb "github.com/countersignd/countersign/proto/countersign/v1"
)

// fill sets every field of a struct to something that is not zero.
func fill(v reflect.Value, n int) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString(strings.Repeat("x", n))
		case reflect.Int, reflect.Int64:
			f.SetInt(int64(n))
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{strings.Repeat("x", n)}))
		case reflect.Struct:
			fill(f, n)
		}
	}
}

// A setting that is left out where settings are merged would be ignored.
func TestEverySettingIsMerged(t *testing.T) {
	var flags, file settings
	fill(reflect.ValueOf(&flags).Elem(), 1)
	fill(reflect.ValueOf(&file).Elem(), 2)
	if got := flags.over(file); !reflect.DeepEqual(got, flags) {
		t.Errorf("flags over a file = %+v, want the flags", got)
	}
	if got := (settings{}).over(file); !reflect.DeepEqual(got, file) {
		t.Errorf("nothing over a file = %+v, want the file", got)
	}
}

// Each limit that is negative is refused before anything is made.
func TestNegativeLimits(t *testing.T) {
	for i := range reflect.TypeFor[limitsSettings]().NumField() {
		s := builtIn()
		if err := s.check(); err != nil {
			t.Fatalf("check of what is built in = %v", err)
		}
		reflect.ValueOf(&s.Limits).Elem().Field(i).SetInt(-1)
		if err := s.check(); err == nil {
			t.Errorf("check with a negative %s = nil, want an error", reflect.TypeFor[limitsSettings]().Field(i).Name)
		}
	}
}

// Settings of Web Push that cannot work are refused before anything is made.
func TestWebPushSettings(t *testing.T) {
	const contact = "mailto:admin@countersign.example"
	for _, test := range []struct {
		set  webPushSettings
		want string
	}{
		{webPushSettings{}, ""},
		{webPushSettings{Contact: contact}, ""},
		{webPushSettings{Contact: contact, Allow: []string{"10.0.0.0/8", "push.home.example"}}, ""},
		{webPushSettings{Contact: "admin"}, `the Web Push contact is "admin", want`},
		{webPushSettings{Contact: contact, Allow: []string{"push.home.example", "0.0.0.0/0"}}, `cannot allow pushes to "0.0.0.0/0"`},
		{webPushSettings{Allow: []string{"10.0.0.0/8"}}, "give the contact too"},
	} {
		s := builtIn()
		s.WebPush = test.set
		if err := s.check(); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("check of %+v = %v, want %q", test.set, err, test.want)
		}
	}
}

func TestEveryLimitIsPassedOn(t *testing.T) {
	var l limitsSettings
	fill(reflect.ValueOf(&l).Elem(), 7)
	got := reflect.ValueOf(l.limits())
	set := 0
	for i := range got.NumField() {
		if got.Field(i).Int() == 7 {
			set++
		}
	}
	if want := reflect.TypeFor[limitsSettings]().NumField(); set != want {
		t.Errorf("%d limits are passed on, want %d", set, want)
	}
	if none := (limitsSettings{}).limits(); none != (server.Limits{}) {
		t.Errorf("no settings give %+v, want the defaults", none)
	}
}

func TestPublicAddress(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:8443":   "127.0.0.1:8443",
		"[2001:db8::1]:99": "[2001:db8::1]:99",
	} {
		addr, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := publicAddress(addr); err != nil || got != want {
			t.Errorf("publicAddress(%s) = %q, %v, want %q", address, got, err, want)
		}
	}
	got, err := publicAddress(&net.TCPAddr{IP: net.IPv6unspecified, Port: 8443})
	if err != nil || !strings.HasSuffix(got, ":8443") || strings.HasPrefix(got, "[") {
		t.Errorf("publicAddress([::]:8443) = %q, %v, want this machine's name", got, err)
	}
}

func TestCheckPublicAddress(t *testing.T) {
	for address, ok := range map[string]bool{
		"auth.example.org:443": true,
		"192.0.2.1:1":          true,
		"[2001:db8::1]:65535":  true,
		"auth.example.org":     false,
		"auth.example.org:":    false,
		":8443":                false,
		"a b:1":                false,
		"host/x:1":             false,
		"host:1&token=x":       false,
		"host:65536":           false,
	} {
		if err := checkPublicAddress(address); (err == nil) != ok {
			t.Errorf("checkPublicAddress(%q) = %v, want ok %v", address, err, ok)
		}
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "relative/is/ignored")
	t.Setenv("HOME", "/home/ada")
	if got := defaultDataDir(); got != "/var/lib/countersign" && got != "/home/ada/.local/share/countersign" {
		t.Errorf("defaultDataDir() = %s", got)
	}
}

// What others wrote drives no terminal, wherever it is printed (A18).
func TestA18ListsAreSafe(t *testing.T) {
	const hostile = "evil\x1b[2J\u202e\nroot\tx"
	var out strings.Builder
	env := &environment{out: &out}
	now := timestamppb.New(time.Unix(1_800_000_000, 0))
	requester := &pb.Requester{Address: hostile, Place: hostile, Device: hostile, Program: hostile}
	signIn := &pb.SignIn{Id: hostile, DecidedBy: hostile, Application: hostile, Account: hostile, Requester: requester, Message: hostile, DenyReason: hostile, BeginTime: now}
	device := &pb.Device{
		Id: hostile, Account: hostile, Name: hostile, KeyStorage: hostile, ApprovalKeyId: hostile,
		EnrolledBy: hostile, RevokedBy: hostile, RevokeReason: hostile, EnrollTime: now,
	}
	for _, err := range []error{
		showSignIn(env, signIn),
		showDevice(env, device, []*pb.Device{device}),
		showAccount(env, &pb.Account{Name: hostile, SuspendReason: hostile}),
		listRecords(env, []*pb.AuditRecord{{
			Event: hostile, Actor: &pb.Actor{Kind: hostile, Id: hostile}, Account: hostile, Device: hostile,
			Application: hostile, SignIn: hostile, Address: hostile, Detail: hostile, Time: now,
		}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	device.State, device.ReadmitTime, device.ReadmittedBy = pb.DeviceState_DEVICE_STATE_REVOKED, now, hostile
	listDevices(env, []*pb.Device{device})
	for _, r := range out.String() {
		if r != '\n' && (r < ' ' || r > '~') {
			t.Fatalf("the output has %U: %q", r, out.String())
		}
	}
	if !strings.Contains(out.String(), `evil\u{1b}[2J`) {
		t.Errorf("the output has no escaped text: %q", out.String())
	}
}

// In a terminal of any width, a name that goes on on the next line begins where
// nothing of this program's own does, and no word of it is lost.
func TestA18ListsAreIndented(t *testing.T) {
	for _, s := range []string{
		"", "short", strings.Repeat("word ", 40) + "x", strings.Repeat("x", 300), "a " + strings.Repeat("x", 300) + "  b",
		`kg4ujtp2krgu  "` + strings.Repeat(" ", 30) + `abcdabcdabcd  "Phone" (phone), trusted" (phone), revoked`,
	} {
		for width := range 201 {
			lines := hanging("  label  ", s, width)
			for i, line := range lines {
				if width >= 40 && len(line) > width {
					t.Errorf("at %d columns a line has %d: %q", width, len(line), line)
				}
				if i > 0 && !strings.HasPrefix(line, strings.Repeat(" ", 11)) {
					t.Errorf("at %d columns a line begins with %q", width, line)
				}
			}
			squeeze := func(s string) string { return strings.ReplaceAll(s, " ", "") }
			if got, want := squeeze(strings.Join(lines, "")), squeeze("  label  "+s); got != want {
				t.Errorf("at %d columns it says %q, want %q", width, got, want)
			}
		}
	}
}

func TestDurationsInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Hour:                      "1 hour",
		24 * time.Hour:                 "24 hours",
		90 * time.Minute:               "90 minutes",
		time.Minute:                    "1 minute",
		90 * time.Second:               "90 seconds",
		1500 * time.Millisecond:        "2 seconds",
		time.Second + time.Millisecond: "1 second",
	} {
		if got := inWordsDuration(d); got != want {
			t.Errorf("inWordsDuration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestPages(t *testing.T) {
	pages := map[string][]int{"": {1, 2, 3}, "b": {4, 5, 6}, "c": {7}}
	next := map[string]string{"": "b", "b": "c"}
	fetch := func(size int32, token string) ([]int, string, error) {
		page := pages[token]
		return page[:min(len(page), int(size))], next[token], nil
	}
	for limit, want := range map[int]int{0: 7, 2: 2, 3: 3, 5: 5, 100: 7} {
		got, err := all(limit, fetch)
		if err != nil || len(got) != want {
			t.Errorf("all(%d) = %v, %v, want %d items", limit, got, err, want)
		}
	}
}

// What is not UTF-8 is refused, and not made something else: here an account
// would be suspended for a reason that nobody gave.
func TestArgumentsAreUTF8(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		args []string
		env  string
		want string
	}{
		{[]string{"--data-dir", dir, "account", "suspend", "ada", "--reason", "gek\xfcndigt"}, "", "argument 7 of the command line is not valid UTF-8"},
		{[]string{"--data-dir", dir + "/\xe4", "status"}, "", "argument 2 of the command line is not valid UTF-8"},
		{[]string{"status"}, dir + "/\xe4", "the environment variable COUNTERSIGN_DATA_DIR is not valid UTF-8"},
	} {
		t.Setenv("COUNTERSIGN_DATA_DIR", tc.env)
		var stderr strings.Builder
		if code := run(tc.args, io.Discard, &stderr); code != exitUsage || !strings.Contains(stderr.String(), tc.want) {
			t.Errorf("%q exits with %d and says %q, want %d and %q", tc.args, code, stderr.String(), exitUsage, tc.want)
		}
	}
}
