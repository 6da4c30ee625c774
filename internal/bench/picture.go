package main

import (
	"fmt"
	"html"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A chart is a picture of how something grows with something else, both in
// powers of ten.
type chart struct {
	title, across, up string
	names             []string
	points            map[string][][2]float64
}

func newChart(title, across, up string) *chart {
	return &chart{title: title, across: across, up: up, points: map[string][][2]float64{}}
}

// point adds a point to the line with a name.
func (c *chart) point(name string, x, y float64) {
	if c.points[name] == nil {
		c.names = append(c.names, name)
	}
	c.points[name] = append(c.points[name], [2]float64{x, y})
}

// draw writes the chart into the directory for pictures, if there is one.
func (s *stage) draw(name string, c *chart) error {
	if s.options.pictures == "" {
		return nil
	}
	return os.WriteFile(filepath.Join(s.options.pictures, name), []byte(c.svg()), 0o666)
}

// The picture's size, and the frame of its lines, in pixels.
const (
	width, height            = 720, 420
	left, right, top, bottom = 70, 540, 50, 350
)

// colours of the lines: they can be told apart by people who see few colours,
// and the lines are dashed in different ways beside.
var colours = []string{"#0b5394", "#b45f06", "#38761d", "#741b47", "#444444"}

var dashes = []string{"", "6 4", "", "2 3", "8 3 2 3"}

// svg returns the picture.
func (c *chart) svg() string {
	minX, maxX, minY, maxY := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, points := range c.points {
		for _, p := range points {
			minX, maxX = min(minX, p[0]), max(maxX, p[0])
			minY, maxY = min(minY, p[1]), max(maxY, p[1])
		}
	}
	lowest, highest := math.Floor(math.Log10(minY)), math.Ceil(math.Log10(maxY))
	highest = max(highest, lowest+1)
	x := func(v float64) float64 {
		return left + (right-left)*(math.Log10(v)-math.Log10(minX))/max(math.Log10(maxX)-math.Log10(minX), 1e-9)
	}
	y := func(v float64) float64 { return bottom - (bottom-top)*(math.Log10(v)-lowest)/(highest-lowest) }

	var b strings.Builder
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"13\" role=\"img\" aria-label=\"%s\">\n", width, height, html.EscapeString(c.title))
	fmt.Fprintf(&b, "<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n", width, height)
	label := func(x, y float64, anchor, words string) {
		fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, html.EscapeString(words))
	}
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"26\" font-size=\"17\" font-weight=\"bold\">%s</text>\n", left, html.EscapeString(c.title))
	for power := lowest; power <= highest; power++ {
		at := y(math.Pow(10, power))
		fmt.Fprintf(&b, "<path d=\"M%d %.1fH%d\" stroke=\"#cccccc\"/>\n", left, at, right)
		label(left-8, at+4, "end", fmt.Sprint(math.Pow(10, power)))
	}
	marked := map[float64]bool{}
	for _, points := range c.points {
		for _, p := range points {
			marked[p[0]] = true
		}
	}
	for _, v := range slices.Sorted(maps.Keys(marked)) {
		fmt.Fprintf(&b, "<path d=\"M%.1f %dv5\" stroke=\"#444444\"/>\n", x(v), bottom)
		label(x(v), bottom+20, "middle", fmt.Sprintf("%.0f", v))
	}
	label((left+right)/2, bottom+45, "middle", c.across)
	fmt.Fprintf(&b, "<text x=\"18\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 18 %d)\">%s</text>\n", (top+bottom)/2, (top+bottom)/2, html.EscapeString(c.up))
	for i, name := range c.names {
		colour, dash := colours[i%len(colours)], dashes[i%len(dashes)]
		var path strings.Builder
		for j, p := range c.points[name] {
			command := "L"
			if j == 0 {
				command = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", command, x(p[0]), y(p[1]))
			fmt.Fprintf(&b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", x(p[0]), y(p[1]), colour)
		}
		fmt.Fprintf(&b, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\"/>\n", path.String(), colour, dash)
		at := float64(top + 10 + 22*i)
		fmt.Fprintf(&b, "<path d=\"M%d %.1fh24\" stroke=\"%s\" stroke-width=\"2\" stroke-dasharray=\"%s\"/>\n", right+16, at-4, colour, dash)
		label(right+46, at, "start", name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}
