package code

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// bits returns a MAC of which the given chunks come first, and zeros after them.
func bits(chunks ...int64) []byte {
	n := new(big.Int)
	for _, c := range chunks {
		n.Lsh(n, chunkBits).Or(n, big.NewInt(c))
	}
	n.Lsh(n, uint(macLen*8-chunkBits*len(chunks)))
	return n.FillBytes(make([]byte, macLen))
}

func TestFromMAC(t *testing.T) {
	const over = 1<<chunkBits - 1
	elevenOver := []int64{over, limit, over, over, over, over, over, over, over, over, over}
	for _, tc := range []struct {
		name string
		macs [][]byte // by counter
		want string
	}{
		{"first chunk", [][]byte{bits(482913)}, "482913"},
		{"zero", [][]byte{bits(0)}, "000000"},
		{"leading zeros", [][]byte{bits(42)}, "000042"},
		{"largest", [][]byte{bits(999_999)}, "999999"},
		{"second chunk, in the middle of a byte", [][]byte{bits(limit, 482913)}, "482913"},
		{"third chunk", [][]byte{bits(over, limit, 7)}, "000007"},
		{"last chunk", [][]byte{bits(append(elevenOver, 123456)...)}, "123456"},
		{"next counter", [][]byte{bits(append(elevenOver, limit)...), bits(654321)}, "654321"},
		{"the bits left over are not used", [][]byte{append(bytes.Repeat([]byte{0xff}, 30), 0, 0), bits(1)}, "000001"},
		{"last counter", append(slicesOf(255, bytes.Repeat([]byte{0xff}, macLen)), bits(2)), "000002"},
	} {
		next := 0
		got := FromMAC(func(counter byte) []byte {
			if int(counter) != next {
				t.Errorf("%s: asked for counter %d, want %d", tc.name, counter, next)
			}
			next++
			return tc.macs[counter]
		})
		if got != tc.want || next != len(tc.macs) {
			t.Errorf("%s: FromMAC = %q after %d MACs, want %q after %d", tc.name, got, next, tc.want, len(tc.macs))
		}
	}
}

func slicesOf(n int, b []byte) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = b
	}
	return all
}

// TestFromMACIsStable keeps codes from changing between versions: a code that is
// shown by one server must be verified by the next.
func TestFromMACIsStable(t *testing.T) {
	if got, want := FromMAC(testMAC(1)), "290958"; got != want {
		t.Errorf("FromMAC = %q, want %q", got, want)
	}
}

// testMAC is a MAC over n and the counter, as the server will have it.
func testMAC(n uint64) func(byte) []byte {
	return func(counter byte) []byte {
		h := hmac.New(sha256.New, []byte("key"))
		h.Write(append(binary.BigEndian.AppendUint64(nil, n), counter))
		return h.Sum(nil)
	}
}

// TestCodesAreUniform counts 300,000 codes in 1,000 bins by their first three
// digits and by their last three, and by each digit. Chi-square with 999 degrees
// of freedom exceeds 1,170 once in 10,000 times. With "20 bits of the MAC modulo
// 10⁶", which prefers the codes below 048576, it would be near 12,000.
func TestCodesAreUniform(t *testing.T) {
	const n = 300_000
	var first, last [1000]int
	var digit [Digits][10]int
	for i := range uint64(n) {
		c := FromMAC(testMAC(i))
		if len(c) != Digits {
			t.Fatalf("FromMAC = %q, want %d digits", c, Digits)
		}
		var value int
		for at, r := range c {
			digit[at][r-'0']++
			value = value*10 + int(r-'0')
		}
		first[value/1000]++
		last[value%1000]++
	}
	check := func(name string, counts []int, bound float64) {
		if got := chiSquare(counts, n); got > bound {
			t.Errorf("%s: chi-square = %.1f, want at most %.1f", name, got, bound)
		}
	}
	check("first three digits", first[:], 1170)
	check("last three digits", last[:], 1170)
	for at := range digit {
		check(fmt.Sprintf("digit %d", at), digit[at][:], 33.7) // 9 degrees, 1 in 10,000
	}

	// The test sees the bias that it is about.
	var biased [1000]int
	for i := range uint64(n) {
		biased[chunk(testMAC(i)(0), 0)%limit/1000]++
	}
	if got := chiSquare(biased[:], n); got < 5_000 {
		t.Errorf("chi-square of biased codes = %.1f, want at least 5000", got)
	}
}

func chiSquare(counts []int, total int) float64 {
	expected := float64(total) / float64(len(counts))
	var sum float64
	for _, n := range counts {
		d := float64(n) - expected
		sum += d * d / expected
	}
	return sum
}

func TestFromMACRefusesWhatIsNoMAC(t *testing.T) {
	for name, mac := range map[string]func(byte) []byte{
		"nothing":   func(byte) []byte { return nil },
		"too short": func(byte) []byte { return make([]byte, 20) },
		"too long":  func(byte) []byte { return make([]byte, 64) },
		"no code":   func(byte) []byte { return bytes.Repeat([]byte{0xff}, macLen) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: FromMAC did not panic", name)
				}
			}()
			FromMAC(mac)
		}()
	}
}

func TestGroup(t *testing.T) {
	for code, want := range map[string]string{
		"482913": "482 913", "000000": "000 000", "12345678": "1234 5678", "": "", "48291": "48291", "4829131": "4829131", "123456789": "123456789",
	} {
		if got := Group(code); got != want {
			t.Errorf("Group(%q) = %q, want %q", code, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, typed := range []string{
		"482913", "482 913", " 482913 ", "482-913", "4 8 2 9 1 3", "482\u00a0913", "482\u202f913",
		"482\u2007913", "482\u2010913", "482\u2011913", "48-29-13", "--482  913--", Group("482913"),
	} {
		if got, err := Parse(typed); got != "482913" || err != nil {
			t.Errorf("Parse(%q) = %q, %v, want 482913", typed, got, err)
		}
	}
	for _, typed := range []string{
		"", " ", "-", "48291", "4829130", "482913482913", "48291x", "482.913", "482,913", "482/913", "482_913",
		"+482913", "0x482913", "482913\n", "482\t913", "482913\x00", "482\u2013913", "482\u2212913", "482\u200b913",
		"\u0664\u0668\u0662\u0669\u0661\u0663", "４８２９１３", "48291\u0663", "²482913", "482913\u202e", "482913\xff",
		"\xa0482913", strings.Repeat(" ", 100) + "482913",
	} {
		got, err := Parse(typed)
		if err == nil || got != "" {
			t.Errorf("Parse(%q) = %q, %v, want an error", typed, got, err)
			continue
		}
		if !strings.Contains(err.Error(), "trusted device shows") {
			t.Errorf("Parse(%q) = %q, which does not say what to do", typed, err)
		}
		if strings.Contains(err.Error(), "482") || strings.Contains(err.Error(), "913") {
			t.Errorf("Parse(%q) = %q, which repeats the code", typed, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, typed := range []string{"482913", "482 913", "48-29-13", "４８２９１３", ""} {
		f.Add(typed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		got, err := Parse(typed)
		if err != nil {
			if got != "" {
				t.Errorf("Parse(%q) = %q with an error", typed, got)
			}
			return
		}
		if !Equal(got, got) || strings.Trim(got, "0123456789") != "" {
			t.Errorf("Parse(%q) = %q, want six digits", typed, got)
		}
		if again, err := Parse(Group(got)); again != got || err != nil {
			t.Errorf("Parse(Group(%q)) = %q, %v", got, again, err)
		}
	})
}

func TestEqual(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"482913", "482913", true},
		{"000000", "000000", true},
		{"482913", "482914", false},
		{"482913", "382913", false},
		{"482913", "", false},
		{"", "482913", false},
		{"", "", false},
		{"48291", "48291", false},
		{"482 913", "482 913", false},
		{"482913", "482913\x00", false},
	} {
		if got := Equal(tc.a, tc.b); got != tc.want {
			t.Errorf("Equal(%q, %q) = %v, want %v", tc.a, tc.b, got, tc.want)
		}
	}
}
