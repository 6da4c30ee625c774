package world

import (
	"image"
	"image/color"
	"image/draw"
	"math"

	"golang.org/x/image/vector"
)

// Colors are those of a map.
type Colors struct{ Sea, Land, Country, Dot, Ring color.Color }

// span is how many degrees of latitude a map shows from top to bottom: enough to
// know the part of the world.
const span = 44

// Draw returns a map of w by h pixels with the spot in its middle, or as near to it
// as the poles allow. Its country is set off, and there is a dot if the spot is exact.
func (s Spot) Draw(w, h int, c Colors) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(img, img.Bounds(), image.NewUniform(c.Sea), image.Point{}, draw.Src)
	if w == 0 || h == 0 {
		return img
	}
	v := view{w: w, h: h, scale: float64(h) / span}
	v.lat = max(min(s.at.lat, 85-span/2), span/2-60)
	v.lon = s.at.lon
	v.squeeze = math.Cos(v.lat * math.Pi / 180)

	a := load()
	land := vector.NewRasterizer(w, h)
	for i := range a.countries {
		if i != s.country {
			v.outline(land, a.countries[i])
		}
	}
	land.Draw(img, img.Bounds(), image.NewUniform(c.Land), image.Point{})
	if s.country != none {
		own := vector.NewRasterizer(w, h)
		v.outline(own, a.countries[s.country])
		own.Draw(img, img.Bounds(), image.NewUniform(c.Country), image.Point{})
	}
	if s.exact {
		x, y := v.place(s.at, 0)
		r := float64(h) / 24
		disc(img, x, y, r*1.7, c.Ring)
		disc(img, x, y, r, c.Dot)
	}
	return img
}

// A view is how degrees become pixels.
type view struct {
	w, h     int
	lon, lat float64 // in the middle
	scale    float64 // pixels for a degree of latitude
	squeeze  float64 // how much shorter one of longitude is there
}

// place returns where p is, the world having been turned so many times.
func (v view) place(p point, turns int) (x, y float64) {
	x = float64(v.w)/2 + (p.lon-v.lon+360*float64(turns))*v.scale*v.squeeze
	y = float64(v.h)/2 - (p.lat-v.lat)*v.scale
	return x, y
}

func (v view) outline(r *vector.Rasterizer, c country) {
	for _, turns := range []int{-1, 0, 1} {
		for _, ring := range c.rings {
			if !v.shows(ring, turns) {
				continue
			}
			for i, p := range ring {
				x, y := v.place(p, turns)
				if i == 0 {
					r.MoveTo(float32(x), float32(y))
				} else {
					r.LineTo(float32(x), float32(y))
				}
			}
			r.ClosePath()
		}
	}
}

// shows reports whether any of the ring may be within the map.
func (v view) shows(ring []point, turns int) bool {
	left, right, top, bottom := true, true, true, true // all of it beyond that edge
	for _, p := range ring {
		x, y := v.place(p, turns)
		left, right = left && x < 0, right && x > float64(v.w)
		top, bottom = top && y < 0, bottom && y > float64(v.h)
	}
	return !left && !right && !top && !bottom
}

// disc draws a round spot.
func disc(img *image.RGBA, x, y, radius float64, c color.Color) {
	r := vector.NewRasterizer(img.Bounds().Dx(), img.Bounds().Dy())
	const corners = 48
	for i := range corners {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / corners)
		px, py := float32(x+radius*cos), float32(y+radius*sin)
		if i == 0 {
			r.MoveTo(px, py)
		} else {
			r.LineTo(px, py)
		}
	}
	r.ClosePath()
	r.Draw(img, img.Bounds(), image.NewUniform(c), image.Point{})
}
