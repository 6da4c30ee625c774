// Package picture holds what tests draw against golden pictures.
//
// With the flag -update they are drawn anew instead. Look at each before it is committed.
package picture

import (
	"bytes"
	"flag"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "draw the golden pictures anew")

// Compare holds a picture against the golden one in testdata. What was drawn is kept in
// the directory for temporary files if they differ.
func Compare(t *testing.T, name string, got image.Image) {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, got); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name+".png")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if n := differences(got, want); n > 0 {
		failed := filepath.Join(os.TempDir(), "countersign-"+name+".png")
		os.WriteFile(failed, b.Bytes(), 0o644)
		t.Errorf("%d pixels differ from %s: see %s", n, path, failed)
	}
}

// tolerance is what processors may make of the edges of letters: some multiply and
// add with one rounding.
const tolerance = 8 << 8

func differences(a, b image.Image) (n int) {
	if a.Bounds() != b.Bounds() {
		return a.Bounds().Dx() * a.Bounds().Dy()
	}
	apart := func(x, y uint32) bool { return max(x, y)-min(x, y) > tolerance }
	for y := a.Bounds().Min.Y; y < a.Bounds().Max.Y; y++ {
		for x := a.Bounds().Min.X; x < a.Bounds().Max.X; x++ {
			r1, g1, b1, _ := a.At(x, y).RGBA()
			r2, g2, b2, _ := b.At(x, y).RGBA()
			if apart(r1, r2) || apart(g1, g2) || apart(b1, b2) {
				n++
			}
		}
	}
	return n
}
