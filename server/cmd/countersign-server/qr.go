package main

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quietZone is how many light modules there must be around a QR code
// (ISO/IEC 18004, 5.3.8).
const quietZone = 4

// A qrCode is a QR code.
type qrCode struct{ *qr.Code }

// newQR encodes text. The lowest level of error correction will do for a
// screen and gives the largest modules.
func newQR(text string) (qrCode, error) {
	c, err := qr.Encode(text, qr.L)
	if err != nil {
		return qrCode{}, fmt.Errorf("making the QR code: %w", err)
	}
	return qrCode{c}, nil
}

// black reports whether the module is dark; those outside are light.
func (c qrCode) black(x, y int) bool {
	return x >= 0 && y >= 0 && x < c.Size && y < c.Size && c.Black(x, y)
}

// The colours, black on white from the fixed part of the 256-colour palette:
// the first sixteen are the terminal's theme, and a scanner wants dark modules
// on a light ground whatever the theme.
const (
	blackOnWhite = "\x1b[38;5;16;48;5;231m"
	plain        = "\x1b[0m"
)

// terminal returns the code for a terminal: each character holds two modules,
// one above the other, since a character is about twice as high as wide.
func (c qrCode) terminal() string {
	var b strings.Builder
	for y := -quietZone; y < c.Size+quietZone; y += 2 {
		b.WriteString(blackOnWhite)
		for x := -quietZone; x < c.Size+quietZone; x++ {
			switch top, bottom := c.black(x, y), c.black(x, y+1); {
			case top && bottom:
				b.WriteRune('█')
			case top:
				b.WriteRune('▀')
			case bottom:
				b.WriteRune('▄')
			default:
				b.WriteRune(' ')
			}
		}
		b.WriteString(plain + "\n")
	}
	return b.String()
}
