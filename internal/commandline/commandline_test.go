package commandline

import "testing"

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		args  []string
		value string // of the variable
		want  string // "" if they are taken
	}{
		{nil, "", ""},
		{[]string{"app", "add", "files", "--name", "Gräfin", ""}, "/srv/Gräfin", ""},
		{[]string{"app", "add", "files", "--name", "Gr\xe4fin"}, "", "argument 5 of the command line is not valid UTF-8: run this in a terminal that uses UTF-8; if it is the name of a file, give the file another one"},
		{[]string{"\xc3"}, "", "argument 1 of the command line is not valid UTF-8: run this in a terminal that uses UTF-8; if it is the name of a file, give the file another one"},
		{[]string{"status"}, "/srv/\xe4", "the environment variable DIR is not valid UTF-8: run this in a terminal that uses UTF-8; if it is the name of a file, give the file another one"},
	} {
		got := ""
		getenv := func(name string) string { return map[string]string{"DIR": tc.value}[name] }
		if err := Check(tc.args, getenv, "DIR"); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("Check(%q) with DIR=%q = %q, want %q", tc.args, tc.value, got, tc.want)
		}
	}
}
