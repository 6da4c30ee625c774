package window

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each line is what stands from left to right on the screen.
func TestPieces(t *testing.T) {
	tests := []struct {
		line string
		rtl  bool
		want []string
	}{
		{"Files", false, []string{"Files"}},
		{"", false, nil},
		{"שלום", false, []string{"שלום"}},
		{"“שלום”", true, []string{"”", "שלום", "“"}},
		{"שלום Ada", true, []string{"Ada", " ", "שלום"}},
		{"Ada שלום", false, []string{"Ada ", "שלום"}},
		{"נותרו 4:52", true, []string{"4:52", " ", "נותרו"}},
		{"המחשב (3)", true, []string{"(", "3", ") ", "המחשב"}}, // brackets open towards what is in them
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, pieces(test.line, test.rtl)); diff != "" {
			t.Errorf("pieces(%q, %v): -want +got:\n%s", test.line, test.rtl, diff)
		}
	}
}

func TestRightToLeft(t *testing.T) {
	for s, want := range map[string]bool{"": true, "“123”": true, "“a שלום”": false, "“שלום a”": true} {
		if got := rightToLeft(s, true); got != want {
			t.Errorf("rightToLeft(%q, true) = %v, want %v", s, got, want)
		}
	}
}
