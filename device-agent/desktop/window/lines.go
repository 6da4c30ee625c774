package window

import (
	"image/color"
	"strings"
	"unicode"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"

	"github.com/countersignd/countersign/internal/text"
)

// A style is how text is drawn.
type style struct {
	size  float32
	bold  bool
	mono  bool
	color color.Color
}

func (s style) toolkit() fyne.TextStyle { return fyne.TextStyle{Bold: s.bold, Monospace: s.mono} }

// width returns how wide a line is as it is drawn.
func (s style) width(line string) float32 {
	var w float32
	for _, part := range pieces(line, false) {
		w += fyne.MeasureText(part, s.size, s.toolkit()).Width
	}
	return w
}

// height returns the distance from line to line.
func (s style) height() float32 { return s.size * 1.4 }

// stranger returns somebody else's words as they are shown, in quotation marks.
// They stand on lines of their own, so the isolates that internal/text sets around
// them are not needed, and taken off.
func stranger(s string) string {
	return strings.NewReplacer("\u2068", "", "\u2069", "").Replace(text.Isolate(s))
}

// wrap breaks s into lines of at most width, between words if it can. A letter that
// alone is wider is written by its number, so nothing is ever cut off.
func (s style) wrap(words string, width float32) []string {
	var lines []string
	line := ""
	for _, word := range strings.SplitAfter(words, " ") {
		if s.width(strings.TrimRight(line+word, " ")) <= width {
			line += word
			continue
		}
		if line != "" {
			lines = append(lines, strings.TrimRight(line, " "))
			line = ""
		}
		for _, letter := range s.letters(word, width) {
			if line != "" && s.width(strings.TrimRight(line+letter, " ")) > width {
				lines = append(lines, line)
				line = ""
			}
			line += letter
		}
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	return lines
}

// letters splits a word into letters with their marks.
func (s style) letters(word string, width float32) []string {
	var letters []string
	for _, r := range word {
		if len(letters) > 0 && unicode.Is(unicode.M, r) {
			letters[len(letters)-1] += string(r)
			continue
		}
		letters = append(letters, string(r))
	}
	var narrow []string
	for _, letter := range letters {
		if s.width(letter) > width/4 {
			for _, r := range text.Escape(letter) {
				narrow = append(narrow, string(r))
			}
			continue
		}
		narrow = append(narrow, letter)
	}
	return narrow
}

// draw returns the objects of one line that begins at x and has so much room. It
// begins at the right if atRight, whatever its own direction.
func (s style) draw(line string, rtl, atRight bool, x, y, room float32) []fyne.CanvasObject {
	var objects []fyne.CanvasObject
	if atRight {
		x += room - s.width(line)
	}
	for _, part := range pieces(line, rtl) {
		t := canvas.NewText(part, s.color)
		t.TextSize, t.TextStyle = s.size, s.toolkit()
		size := t.MinSize()
		t.Resize(size)
		t.Move(fyne.NewPos(x, y))
		x += size.Width
		objects = append(objects, t)
	}
	return objects
}
