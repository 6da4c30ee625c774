package text

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func TestCheckAccepts(t *testing.T) {
	for _, s := range []string{
		"", "a", "Ada's phone", "Gräfin von Lovelace", "Zürich, Schweiz", "東京都千代田区", "서울특별시", "Ελλάδα",
		"القاهرة", "ירושלים", "नई दिल्ली", "กรุงเทพฯ", "Việt Nam", "Żółć", "Firefox 140 (Linux)", "C:\\Users", `a "b" <c> & 'd'`,
		"📱", "☎️", "a  b", "a\u00a0b", "مَرْحَبًا",
		strings.Repeat("a", 64), strings.Repeat("é", 64), strings.Repeat("\U0001f600", 64),
		"q\u0323\u0307", // two marks, in the order of form C
	} {
		if err := Check(s); err != nil {
			t.Errorf("Check(%q) = %v, want nil", s, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, tc := range []struct{ s, why string }{
		{" ", "white space"},
		{"\u00a0", "white space"},
		{"\u3000", "white space"},
		{" a", "white space"},
		{"a ", "white space"},
		{"a\u2003", "white space"},
		{"\x00", "U+0000, a control character"},
		{"a\nb", "U+000A, a control character"},
		{"a\tb", "U+0009, a control character"},
		{"\x1b[2J", "U+001B, a control character"},
		{"a\u009bb", "U+009B, a control character"},
		{"a\u007fb", "U+007F, a control character"},
		{"a\u202eb", "U+202E, a format character"},
		{"a\u2066b", "U+2066, a format character"},
		{"a\u2069b", "U+2069, a format character"},
		{"a\u200bb", "U+200B, a format character"},
		{"a\u200db", "U+200D, a format character"},
		{"a\u00adb", "U+00AD, a format character"},
		{"\ufeffa", "U+FEFF, a format character"},
		{"a\u061cb", "U+061C, a format character"},
		{"a\U000e0061", "U+E0061, a format character"},
		{"a\u2028b", "U+2028, a line or paragraph separator"},
		{"a\u2029b", "U+2029, a line or paragraph separator"},
		{"a\ue000b", "U+E000, a private-use character"},
		{"a\U0010fffdb", "U+10FFFD, a private-use character"},
		{"a\uffffb", "U+FFFF, an unassigned character"},
		{"a\ufdd0b", "U+FDD0, an unassigned character"},
		{"a\u0378b", "U+0378, an unassigned character"},
		{"a\u3164b", "U+3164, an invisible character"},
		{"a\u115fb", "U+115F, an invisible character"},
		{"a\uffa0b", "U+FFA0, an invisible character"},
		{"a\u034fb", "U+034F, an invisible character"},
		{"\u2800", "U+2800, a character that looks like nothing"},
		{"Files\u2800", "U+2800, a character that looks like nothing"},
		{"a\U0001d159b", "U+1D159, a character that looks like nothing"},
		{"\u0301a", "U+0301, which has no character"},
		{"x\u0323\u0307\u0304", "more than 2 marks"},
		{"Z" + strings.Repeat("\u0337", 30), "more than 2 marks"},
		{"e\u0301", "normal form C"},
		{"\u212b", "normal form C"},
		{"x\u0307\u0323", "normal form C"},
		{"\xff", "not valid UTF-8"},
		{"a\xc0\xafb", "not valid UTF-8"},
		{"a\xed\xa0\x80b", "not valid UTF-8"},
		{"a\xf4\x90\x80\x80b", "not valid UTF-8"},
		{strings.Repeat("a", 65), "65 characters"},
		{strings.Repeat("\U0001f600", 65), "260 bytes"},
		{strings.Repeat("a", 1_000_000), "1000000 bytes"},
	} {
		err := Check(tc.s)
		if err == nil {
			t.Errorf("Check(%.40q) = nil, want an error", tc.s)
			continue
		}
		if !strings.Contains(err.Error(), tc.why) {
			t.Errorf("Check(%.40q) = %q, want it to say %q", tc.s, err, tc.why)
		}
		if Escape(err.Error()) != err.Error() {
			t.Errorf("Check(%.40q) = %q, which repeats hostile text", tc.s, err)
		}
	}
}

// TestCheckKnowsEveryRune compares the rule for single characters with the one
// that the categories of Unicode give, for all of them.
func TestCheckKnowsEveryRune(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue // is no character of a valid string
		}
		bad := unicode.In(r, unicode.Cc, unicode.Cf, unicode.Cs, unicode.Co, unicode.Cn, unicode.Zl, unicode.Zp,
			unicode.Other_Default_Ignorable_Code_Point) || r == '\u2800' || r == '\U0001d159'
		if got := forbidden(r) != ""; got != bad {
			t.Fatalf("forbidden(%U) = %q, want a reason: %v", r, forbidden(r), bad)
		}
	}
}

func TestIsolate(t *testing.T) {
	for s, want := range map[string]string{
		"":                "\u2068“”\u2069",
		"Firefox":         "\u2068“Firefox”\u2069",
		"القاهرة":         "\u2068“القاهرة”\u2069",
		`C:\Users`:        "\u2068“C:\\Users”\u2069",
		"a\u202eb":        "\u2068“a\\u{202e}b”\u2069",
		"a\u2069b\n":      "\u2068“a\\u{2069}b\\u{a}”\u2069",
		"x” from “Zürich": "\u2068“x\\u{201d} from \\u{201c}Zürich”\u2069",
		`x" from "y`:      "\u2068“x\\u{22} from \\u{22}y”\u2069",
		" ":               "\u2068“ ”\u2069",
		"\xff":            "\u2068“\\x{ff}”\u2069",
	} {
		if got := Isolate(s); got != want {
			t.Errorf("Isolate(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestEscape(t *testing.T) {
	for s, want := range map[string]string{
		"":                       "",
		"plain text ~!\"'":       "plain text ~!\"'",
		`back\slash`:             `back\\slash`,
		`\u{202e}`:               `\\u{202e}`,
		"é":                      `\u{e9}`,
		"\U0001f600":             `\u{1f600}`,
		"a\nb\x1b[2J\x7f\u0085":  `a\u{a}b\u{1b}[2J\u{7f}\u{85}`,
		"\u202e\u2028":           `\u{202e}\u{2028}`,
		"\xff\xc0\xaf":           `\x{ff}\x{c0}\x{af}`,
		"\ufffd":                 `\u{fffd}`,
		strings.Repeat("a", 256): strings.Repeat("a", 256),
		strings.Repeat("a", 257): strings.Repeat("a", 256) + "...",
		strings.Repeat("é", 99):  strings.Repeat(`\u{e9}`, 42) + "...",
	} {
		if got := Escape(s); got != want {
			t.Errorf("Escape(%q) = %q, want %q", s, got, want)
		}
	}
}

func TestEscapeSentence(t *testing.T) {
	for s, want := range map[string]string{
		"":           "",
		"\x1b[2J":    `\u{1b}[2J`,
		"no é here.": `no \u{e9} here.`,
		strings.Repeat("\U0001f600", 64) + strings.Repeat("a", 400): strings.Repeat(`\u{1f600}`, 64) + strings.Repeat("a", 400),
		strings.Repeat("a", 1024):                                   strings.Repeat("a", 1024),
		strings.Repeat("a", 1025):                                   strings.Repeat("a", 1024) + "...",
	} {
		if got := EscapeSentence(s); got != want {
			t.Errorf("EscapeSentence(%q) = %q, want %q", s, got, want)
		}
	}
}

// hostile returns one of the strings that attackers send: pieces that reorder,
// hide, stack, drive a terminal, end a quotation or are no text at all, between
// pieces of plain text.
func hostile(r *rand.Rand) string {
	pieces := []func() string{
		func() string { return "Ada's phone" },
		func() string { return "Zürich" },
		func() string { return string(rune('\u202a' + r.IntN(5))) },               // bidirectional embeddings, overrides
		func() string { return string(rune('\u2066' + r.IntN(4))) },               // bidirectional isolates
		func() string { return string(rune('\u200b' + r.IntN(5))) },               // zero width
		func() string { return "\x1b]0;" + "\a" },                                 // title of the terminal
		func() string { return fmt.Sprintf("\x1b[%d;%dH", r.IntN(9), r.IntN(9)) }, // cursor
		func() string { return "\u009b2J" },
		func() string { return string(rune(r.IntN(32))) },
		func() string { return string(rune(0x80 + r.IntN(32))) },
		func() string { return "”\u2069\nCode: 482 913\n\u2068“" },
		func() string { return `" allowed="true` },
		func() string { return strings.Repeat(string(rune('\u0300'+r.IntN(112))), 1+r.IntN(40)) },
		func() string { return "\u3164\u115f\uffa0\u2800" },
		func() string { return string(rune(0xe0000 + r.IntN(128))) },
		func() string { return "\ufeff\ufffe\uffff" },
		func() string { return "\u2028\u2029\u0085\v\f" },
		func() string { return string([]byte{byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))}) },
		func() string { return string(rune(r.IntN(unicode.MaxRune + 1))) },
		func() string { return "\xed\xa0\xbd\xed\xb8\x80" },
		func() string { return "\u202emoc.elpmaxe" },
		func() string { return "ﷺ﷽" },
		func() string { return "{{.Token}} %s %n ${jndi:x} <script>" },
		func() string { return strings.Repeat("A", r.IntN(5000)) },
	}
	var b strings.Builder
	for range 1 + r.IntN(6) {
		b.WriteString(pieces[r.IntN(len(pieces))]())
	}
	return b.String()
}

// TestA18HostileText shows 10,000 hostile strings in each way there is, and looks
// at what a terminal, a log or a page would get.
func TestA18HostileText(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 8))
	refused := 0
	for range 10_000 {
		s := hostile(r)
		checkAll(t, s)
		if Check(s) != nil {
			refused++
		}
	}
	if refused < 7_000 || refused == 10_000 {
		t.Errorf("Check refused %d of 10000 hostile strings, want most, but not all", refused)
	}
}

// checkAll checks what must hold for every string.
func checkAll(t *testing.T, s string) {
	t.Helper()
	valid := Check(s) == nil
	if valid {
		if !utf8.ValidString(s) || !norm.NFC.IsNormalString(s) || len(s) > 256 || utf8.RuneCountInString(s) > 64 {
			t.Errorf("Check(%q) = nil", s)
		}
		checkVisible(t, s, s)
	}

	shown := Isolate(s)
	inner, opened := strings.CutPrefix(shown, "\u2068“")
	inner, closed := strings.CutSuffix(inner, "”\u2069")
	if !opened || !closed {
		t.Fatalf("Isolate(%q) = %q, which is not isolated and quoted", s, shown)
	}
	if strings.ContainsAny(inner, doubleQuotes) {
		t.Errorf("Isolate(%q) = %q, which can end its quotation", s, shown)
	}
	if valid && !strings.ContainsAny(s, doubleQuotes) && inner != s {
		t.Errorf("Isolate(%q) = %q, which changes valid text", s, shown)
	}
	checkVisible(t, s, inner)

	escaped := Escape(s)
	if len(escaped) > maxBytes+len("...") {
		t.Errorf("Escape(%q) has %d bytes", s, len(escaped))
	}
	for _, c := range []byte(escaped) {
		if c < ' ' || c > '~' {
			t.Errorf("Escape(%q) = %q, which contains the byte %#x", s, escaped, c)
		}
	}
}

// checkVisible checks that shown, which was made of s, has no power over what is around it.
func checkVisible(t *testing.T, s, shown string) {
	t.Helper()
	for _, r := range shown {
		if unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) {
			t.Errorf("%q is shown as %q, which contains %U", s, shown, r)
		}
	}
	marks := 0
	for _, r := range shown {
		if marks++; !unicode.Is(unicode.M, r) {
			marks = 0
		}
		if marks > 2 {
			t.Errorf("%q is shown as %q, which stacks marks", s, shown)
		}
	}
}

func FuzzText(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 8))
	for range 30 {
		f.Add(hostile(r))
	}
	f.Add("Ada's phone")
	f.Fuzz(checkAll)
}
