package recovery

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
)

func TestACodeHasEightyBits(t *testing.T) {
	// Every bit of the first ten bytes counts, and none after them.
	sum := make([]byte, 32)
	zero := FromMAC(sum)
	if zero != "0000000000000000" {
		t.Errorf("FromMAC(0) = %q, want sixteen zeros", zero)
	}
	seen := map[string]int{zero: -1}
	for bit := range 80 {
		sum[bit/8] ^= 0x80 >> (bit % 8)
		code := FromMAC(sum)
		if other, dup := seen[code]; dup {
			t.Errorf("bits %d and %d give the same code %q", bit, other, code)
		}
		seen[code] = bit
		sum[bit/8] ^= 0x80 >> (bit % 8)
	}
	for i := 10; i < len(sum); i++ {
		sum[i] = 0xff
	}
	if got := FromMAC(sum); got != zero {
		t.Errorf("FromMAC with later bits set = %q, want %q", got, zero)
	}
}

func TestParseForgives(t *testing.T) {
	const want = "701MVQWD2XTBH0VC"
	for _, typed := range []string{
		"701M-VQWD-2XTB-H0VC", "701mvqwd2xtbh0vc", " 701M VQWD 2XTB H0VC ", "701M VQWD\u00a02XTB\u2011H0VC",
		"7OIM-VQWD-2XTB-HOVC", "7olm-uqwd-2xtb-h0uc", "7-0-1-M-V-Q-W-D-2-X-T-B-H-0-V-C",
	} {
		if got, err := Parse(typed); err != nil || got != want {
			t.Errorf("Parse(%q) = %q, %v, want %q", typed, got, err, want)
		}
	}
	for _, typed := range []string{
		"", "701M-VQWD-2XTB-H0V", "701M-VQWD-2XTB-H0VCC", "701M-VQWD-2XTB-H0V!", "701M-VQWD-2XTB-H0VÄ",
		"701M-VQWD-2XTB-H0V\n", "701M-VQWD-2XTB-H0V\x00", "٧01M-VQWD-2XTB-H0VC", "123456", strings.Repeat("-", 65),
	} {
		got, err := Parse(typed)
		if err == nil {
			t.Errorf("Parse(%q) = %q, want an error", typed, got)
		} else if typed != "" && strings.Contains(err.Error(), typed) {
			t.Errorf("Parse(%q) repeats it: %v", typed, err)
		}
	}
}

func TestHashesAreApart(t *testing.T) {
	a := Hash("ada", "701MVQWD2XTBH0VC")
	for what, b := range map[string]string{
		"another code":            Hash("ada", "701MVQWD2XTBH0VD"),
		"another account":         Hash("bob", "701MVQWD2XTBH0VC"),
		"a shifted border of two": Hash("ada7", "01MVQWD2XTBH0VC"),
	} {
		if a == b {
			t.Errorf("%s has the same hash", what)
		}
	}
	if got, want := a, "cf53unsk"; len(got) != 52 || !strings.HasPrefix(got, want) {
		t.Errorf("Hash = %q, want 52 characters that begin with %q", got, want)
	}
}

// FuzzParse: what Parse accepts has one spelling, which it gives back whatever
// was typed between.
func FuzzParse(f *testing.F) {
	sum := make([]byte, 32)
	for range 3 {
		rand.Read(sum)
		f.Add(Group(FromMAC(sum)))
	}
	f.Add("7oim uqwd 2xtb hOvc")
	f.Fuzz(func(t *testing.T, typed string) {
		code, err := Parse(typed)
		if err != nil {
			return
		}
		raw, err := crockford.DecodeString(code)
		if err != nil || len(raw) != entropy || FromMAC(bytes.Clone(raw)) != code {
			t.Errorf("Parse(%q) = %q, which is no code: %v", typed, code, err)
		}
		for _, again := range []string{code, Group(code), strings.ToLower(code)} {
			if got, err := Parse(again); err != nil || got != code {
				t.Errorf("Parse(%q) = %q, %v, want %q", again, got, err, code)
			}
		}
	})
}
