package world

import (
	_ "embed"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
)

//go:embed countries.json
var countriesJSON []byte

//go:embed places.txt
var placesText string

// A point is in degrees.
type point struct{ lon, lat float64 }

// A country has rings of points, closed; holes turn the other way.
type country struct {
	name  string
	rings [][]point
}

// An atlas is what the files hold.
type atlas struct {
	countries []country
	named     map[string]int    // countries by their names, folded
	places    map[string][]city // by their names, folded
}

type city struct {
	at      point
	country string // its name, folded; Natural Earth's
}

// load reads the files once. They are part of the program, so what is wrong with
// them is found by the tests.
var load = sync.OnceValue(func() *atlas {
	a := &atlas{named: make(map[string]int), places: make(map[string][]city)}
	a.readCountries()
	for line := range strings.Lines(placesText) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		switch {
		case f[0] == "country" && len(f) == 3:
			for _, name := range strings.Split(f[2], "|") {
				a.named[fold(name)] = a.named[fold(f[1])]
			}
		case f[0] == "place" && len(f) == 5:
			lat, err1 := strconv.ParseFloat(f[3], 64)
			lon, err2 := strconv.ParseFloat(f[4], 64)
			if err1 != nil || err2 != nil {
				panic("world: " + line)
			}
			for _, name := range strings.Split(f[1], "|") {
				a.places[fold(name)] = append(a.places[fold(name)], city{point{lon, lat}, fold(f[2])})
			}
		case !strings.HasPrefix(line, "#"):
			panic("world: " + line)
		}
	}
	return a
})

// readCountries reads outlines that are kept as arcs, each shared by those whose
// border it is; ^i stands for arc i backwards (the TopoJSON specification, 2.1.4).
func (a *atlas) readCountries() {
	var file struct {
		Transform struct{ Scale, Translate [2]float64 }
		Arcs      [][][2]float64
		Countries []struct {
			Name string
			Arcs [][][]int
		}
	}
	if err := json.Unmarshal(countriesJSON, &file); err != nil {
		panic("world: " + err.Error())
	}
	arcs := make([][]point, len(file.Arcs))
	for i, deltas := range file.Arcs {
		var x, y float64
		for _, d := range deltas {
			x, y = x+d[0], y+d[1]
			arcs[i] = append(arcs[i], point{
				x*file.Transform.Scale[0] + file.Transform.Translate[0],
				y*file.Transform.Scale[1] + file.Transform.Translate[1],
			})
		}
	}
	for i, c := range file.Countries {
		a.named[fold(c.Name)] = i
		outline := country{name: c.Name}
		for _, polygon := range c.Arcs {
			for _, ring := range polygon {
				outline.rings = append(outline.rings, unwrap(join(arcs, ring)))
			}
		}
		a.countries = append(a.countries, outline)
	}
}

func join(arcs [][]point, ring []int) []point {
	var points []point
	for _, i := range ring {
		if i >= 0 {
			points = append(points, arcs[i]...)
			continue
		}
		arc := arcs[^i]
		for j := len(arc) - 1; j >= 0; j-- {
			points = append(points, arc[j])
		}
	}
	return points
}

// unwrap lets a ring that crosses 180 degrees go on beyond them, instead of back
// around the world.
func unwrap(ring []point) []point {
	for i := 1; i < len(ring); i++ {
		for ring[i].lon-ring[i-1].lon > 180 {
			ring[i].lon -= 360
		}
		for ring[i].lon-ring[i-1].lon < -180 {
			ring[i].lon += 360
		}
	}
	return ring
}

// fold makes names that differ in case and spaces alone the same.
func fold(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

// none is no country.
const none = -1

// A Spot is where a place is. The zero Spot is nowhere.
type Spot struct {
	known   bool
	exact   bool // at is a city, and not just some place in the country
	at      point
	country int // or none
}

// Known reports whether the place is on the map at all.
func (s Spot) Known() bool { return s.known }

// Exact reports whether it is known better than by country.
func (s Spot) Exact() bool { return s.exact }

// Find looks for a place that is written as "City, Country", "Country" or with more
// in between. A city counts only with its country, because many cities share a
// name.
func Find(place string) Spot {
	parts := strings.Split(place, ",")
	first, last := fold(parts[0]), fold(parts[len(parts)-1])
	a := load()
	index, isCountry := a.named[last]
	if len(parts) > 1 {
		for _, c := range a.places[first] {
			// Small countries have no outline at this scale.
			theirs, drawn := a.named[c.country]
			if drawn && isCountry && theirs == index {
				return Spot{known: true, exact: true, at: c.at, country: index}
			}
			if !drawn && c.country == last {
				return Spot{known: true, exact: true, at: c.at, country: none}
			}
		}
	}
	if !isCountry {
		return Spot{}
	}
	return Spot{known: true, at: middle(a.countries[index]), country: index}
}

// middle returns the middle of a country's largest part.
func middle(c country) point {
	var best, most point
	for _, ring := range c.rings {
		low, high := ring[0], ring[0]
		for _, p := range ring {
			low = point{min(low.lon, p.lon), min(low.lat, p.lat)}
			high = point{max(high.lon, p.lon), max(high.lat, p.lat)}
		}
		if size := (point{high.lon - low.lon, high.lat - low.lat}); size.lon*size.lat > most.lon*most.lat {
			best, most = point{(low.lon + high.lon) / 2, (low.lat + high.lat) / 2}, size
		}
	}
	return best
}
