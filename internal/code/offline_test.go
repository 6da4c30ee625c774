package code

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestRFC4226 has the vectors of RFC 4226, appendix D.
func TestRFC4226(t *testing.T) {
	for counter, want := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		if got := hotp(sha1.New, []byte("12345678901234567890"), uint64(counter), 6); got != want {
			t.Errorf("hotp(%d) = %s, want %s", counter, got, want)
		}
	}
}

// TestRFC6238 has all vectors of RFC 6238, appendix B. The keys are as long as
// the hash function's result, which the appendix's text does not say and its
// reference implementation does.
func TestRFC6238(t *testing.T) {
	modes := []struct {
		name string
		hash func() hash.Hash
		key  string
	}{
		{"SHA1", sha1.New, "12345678901234567890"},
		{"SHA256", sha256.New, "12345678901234567890123456789012"},
		{"SHA512", sha512.New, "1234567890123456789012345678901234567890123456789012345678901234"},
	}
	for _, tc := range []struct {
		seconds int64
		step    int64
		codes   [3]string
	}{
		{59, 0x1, [3]string{"94287082", "46119246", "90693936"}},
		{1111111109, 0x23523EC, [3]string{"07081804", "68084774", "25091201"}},
		{1111111111, 0x23523ED, [3]string{"14050471", "67062674", "99943326"}},
		{1234567890, 0x273EF07, [3]string{"89005924", "91819424", "93441116"}},
		{2000000000, 0x3F940AA, [3]string{"69279037", "90698825", "38618901"}},
		{20000000000, 0x27BC86AA, [3]string{"65353130", "77737706", "47863826"}},
	} {
		step := Step(time.Unix(tc.seconds, 0))
		if step != tc.step {
			t.Errorf("Step(%d s) = %x, want %x", tc.seconds, step, tc.step)
		}
		for i, m := range modes {
			if got := hotp(m.hash, []byte(m.key), uint64(step), OfflineDigits); got != tc.codes[i] {
				t.Errorf("%s at %d s = %s, want %s", m.name, tc.seconds, got, tc.codes[i])
			}
		}
		if got := Offline([]byte(modes[1].key), step); got != tc.codes[1] {
			t.Errorf("Offline at %d s = %s, want %s, which is the RFC's for SHA-256", tc.seconds, got, tc.codes[1])
		}
	}
}

func TestSteps(t *testing.T) {
	for seconds, want := range map[int64]int64{-1: 0, 0: 0, 29: 0, 30: 1, 59: 1, 60: 2} {
		if got := Step(time.Unix(seconds, 0)); got != want {
			t.Errorf("Step(%d s) = %d, want %d", seconds, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "seconds"), rapid.Int64Range(0, 1e9-1).Draw(t, "nanoseconds"))
		step := Step(at)
		if begin := StepTime(step); at.Before(begin) || !at.Before(begin.Add(StepLength)) || Step(begin) != step {
			t.Fatalf("%v is in step %d, which begins at %v", at, step, begin)
		}
	})
}

// TestParseTellsTheKinds gives what people type with separators anywhere, and
// wants six digits and eight told apart, and nothing else taken for either.
func TestParseTellsTheKinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`[0-9]{0,12}`).Draw(t, "digits")
		var typed strings.Builder
		for _, d := range digits {
			typed.WriteString(rapid.SampledFrom([]string{"", " ", "-", "\u00a0", "\u2011", " - "}).Draw(t, "between"))
			typed.WriteRune(d)
		}
		want, wantAny := "", ""
		if len(digits) == Digits {
			want = digits
		}
		if len(digits) == Digits || len(digits) == OfflineDigits {
			wantAny = digits
		}
		if got, err := Parse(typed.String()); got != want || (err == nil) != (want != "") {
			t.Fatalf("Parse(%q) = %q, %v, want %q", typed.String(), got, err, want)
		}
		if got, err := ParseAny(typed.String()); got != wantAny || (err == nil) != (wantAny != "") {
			t.Fatalf("ParseAny(%q) = %q, %v, want %q", typed.String(), got, err, wantAny)
		}
	})
}

func TestParseSaysWhichKindCounts(t *testing.T) {
	if _, err := Parse("1234 5678"); err == nil || !strings.Contains(err.Error(), "without a network") || strings.Contains(err.Error(), "1234") {
		t.Errorf("Parse of an offline code = %v, want it said that this kind does not count", err)
	}
	if _, err := ParseAny("1234567"); err == nil || !strings.Contains(err.Error(), "6 digits, or 8") {
		t.Errorf("ParseAny of seven digits = %v, want both lengths named", err)
	}
}

// TestS9TrailingDigits is a line with a password and a code right behind it: the
// digits that end it are passed on, and no other character ever is.
func TestS9TrailingDigits(t *testing.T) {
	for line, want := range map[string]string{
		"":                   "",
		"secret":             "",
		"secret482913":       "482913",
		"hunter22482913":     "22482913",
		"secret12345678":     "12345678",
		"1234567890":         "34567890",
		"482913x":            "",
		"secret 482 913":     "913",
		"pass\u0664\u0668":   "",
		"geheimnis٣482913":   "482913",
		"geheim\xff\xfe7777": "7777",
	} {
		if got := Trailing(line); got != want {
			t.Errorf("Trailing(%q) = %q, want %q", line, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.StringMatching(`.{0,20}[^0-9]`).Draw(t, "password")
		digits := rapid.StringMatching(`[0-9]{0,12}`).Draw(t, "digits")
		want := digits[max(0, len(digits)-OfflineDigits):]
		if got := Trailing(password + digits); got != want {
			t.Fatalf("Trailing(%q + %q) = %q, want %q", password, digits, got, want)
		}
	})
}

func TestParseTrailing(t *testing.T) {
	for digits, want := range map[string][2]string{
		"482913": {"482913", ""}, "2482913": {"482913", ""}, "22482913": {"482913", "22482913"},
	} {
		if six, eight, err := ParseTrailing(digits); six != want[0] || eight != want[1] || err != nil {
			t.Errorf("ParseTrailing(%q) = %q, %q, %v, want %q", digits, six, eight, err, want)
		}
	}
	for _, digits := range []string{"", "48291", "482913482", "48291x", " 482913", "482 913", "４８２９１３", "secret482913"} {
		if six, eight, err := ParseTrailing(digits); err == nil || six != "" || eight != "" {
			t.Errorf("ParseTrailing(%q) = %q, %q, %v, want an error", digits, six, eight, err)
		}
	}
}

func FuzzParseAny(f *testing.F) {
	for _, typed := range []string{"482913", "1234 5678", "12-34-56-78", "1234567", "４８２９１３７７"} {
		f.Add(typed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		got, err := ParseAny(typed)
		if err != nil {
			if got != "" {
				t.Errorf("ParseAny(%q) = %q with an error", typed, got)
			}
			return
		}
		if !Equal(got, got) || strings.Trim(got, "0123456789") != "" {
			t.Errorf("ParseAny(%q) = %q, want digits", typed, got)
		}
		if again, err := ParseAny(Group(got)); again != got || err != nil {
			t.Errorf("ParseAny(Group(%q)) = %q, %v", got, again, err)
		}
		if six, err := Parse(typed); (err == nil) != (len(got) == Digits) || err == nil && six != got {
			t.Errorf("Parse(%q) = %q, %v, ParseAny = %q", typed, six, err, got)
		}
	})
}

func FuzzTrailing(f *testing.F) {
	for _, line := range []string{"secret482913", "hunter2248291300", "", "\xff1234567"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got := Trailing(line)
		if !strings.HasSuffix(line, got) || strings.Trim(got, "0123456789") != "" || len(got) > OfflineDigits {
			t.Errorf("Trailing(%q) = %q", line, got)
		}
		if _, _, err := ParseTrailing(got); (err == nil) != (len(got) >= Digits) {
			t.Errorf("ParseTrailing(%q) = %v", got, err)
		}
	})
}

func TestFind(t *testing.T) {
	codes := []string{"11111111", "22222222", "", "11111111", "482913"}
	for typed, want := range map[string]int{"11111111": 3, "22222222": 1, "482913": 4, "33333333": -1, "": -1, "1111111": -1, "111111110": -1} {
		if got := Find(codes, typed); got != want {
			t.Errorf("Find(%q) = %d, want %d", typed, got, want)
		}
	}
	if got := Find(nil, "11111111"); got != -1 {
		t.Errorf("Find in nothing = %d, want -1", got)
	}
}
