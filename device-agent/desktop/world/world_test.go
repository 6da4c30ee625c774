package world

import (
	"image"
	"image/color"
	"math"
	"testing"
)

func TestFind(t *testing.T) {
	tests := []struct {
		place        string
		known, exact bool
		lat, lon     float64 // of an exact one
	}{
		{"Lisbon, Portugal", true, true, 38.72, -9.14},
		{"Berlin, Germany", true, true, 52.52, 13.40},
		{"  berlin ,  DEUTSCHLAND", true, true, 52.52, 13.40},
		{"Copenhagen, Denmark", true, true, 55.68, 12.56},
		{"San Francisco, California, United States", true, true, 37.77, -122.42},
		{"Singapore, Singapore", true, true, 1.29, 103.85}, // has no outline at this scale
		{"Berlin, Connecticut, United States", true, false, 0, 0},
		{"Nowhere, Portugal", true, false, 0, 0},
		{"Portugal", true, false, 0, 0},
		{"Berlin", false, false, 0, 0}, // which one?
		{"Lisbon, Atlantis", false, false, 0, 0},
		{"", false, false, 0, 0},
		{",", false, false, 0, 0},
		{"Portugal, Lisbon", false, false, 0, 0},
	}
	for _, test := range tests {
		s := Find(test.place)
		if s.Known() != test.known || s.Exact() != test.exact {
			t.Errorf("Find(%q) = known %v, exact %v, want %v, %v", test.place, s.Known(), s.Exact(), test.known, test.exact)
		}
		if test.exact && (math.Abs(s.at.lat-test.lat) > 0.1 || math.Abs(s.at.lon-test.lon) > 0.1) {
			t.Errorf("Find(%q) is at %v, want %v, %v", test.place, s.at, test.lat, test.lon)
		}
	}
}

var plain = Colors{
	Sea: color.RGBA{B: 255, A: 255}, Land: color.RGBA{G: 255, A: 255}, Country: color.RGBA{R: 255, G: 255, A: 255},
	Dot: color.RGBA{R: 255, A: 255}, Ring: color.White,
}

// Every place of the file can be found, lies on the map that is drawn of it, and,
// where it lies inland at this scale, in its country.
func TestEveryPlaceIsDrawnInItsCountry(t *testing.T) {
	const w, h = 90, 40
	onLand := 0
	for name, cities := range load().places {
		for _, c := range cities {
			s := Find(name + ", " + c.country)
			if !s.Exact() {
				t.Errorf("Find(%s, %s) is not exact", name, c.country)
				continue
			}
			img := s.Draw(w, h, plain)
			red := 0
			for i := range w * h {
				if img.RGBAAt(i%w, i/w) == plain.Dot {
					red++
				}
			}
			if red == 0 {
				t.Errorf("the map of %s shows no dot", name)
			}
			s.exact = false // the same map without the dot over the land
			v := view{w: w, h: h, scale: h / float64(span), lon: s.at.lon}
			v.lat = max(min(s.at.lat, 85-span/2), span/2-60)
			v.squeeze = math.Cos(v.lat * math.Pi / 180)
			x, y := v.place(s.at, 0)
			if s.country != none && near(s.Draw(w, h, plain), int(x), int(y)) {
				onLand++
			}
		}
	}
	if onLand < 200 {
		t.Errorf("%d names lie in or beside their country's land, want nearly all", onLand)
	}
}

// near reports whether the country's colour is within two pixels.
func near(img *image.RGBA, x, y int) bool {
	for dx := -2; dx <= 2; dx++ {
		for dy := -2; dy <= 2; dy++ {
			if c := img.RGBAAt(x+dx, y+dy); c.R > 128 && c.G > 128 {
				return true
			}
		}
	}
	return false
}

// Fiji lies on both sides of 180 degrees. Nothing of it is drawn around the world.
func TestNoLineAroundTheWorld(t *testing.T) {
	img := Find("Brazil").Draw(300, 120, plain)
	for y := range 120 {
		if c := img.RGBAAt(70, y); c.B < 255 {
			t.Errorf("there is land at 70, %d in the Pacific: %v", y, c)
		}
	}
}

func TestDrawAcrossTheDateLine(t *testing.T) {
	img := Find("Suva, Fiji").Draw(300, 120, plain)
	land := func(from, to int) (n int) {
		for x := from; x < to; x++ {
			for y := range 120 {
				if img.RGBAAt(x, y).G > 128 {
					n++
				}
			}
		}
		return n
	}
	if land(0, 60) == 0 { // Australia, west of it
		t.Error("no land at the left edge of a map of Fiji")
	}
	if Find("Portugal").Draw(0, 0, plain).Bounds() != image.Rect(0, 0, 0, 0) {
		t.Error("an empty map is not empty")
	}
}
