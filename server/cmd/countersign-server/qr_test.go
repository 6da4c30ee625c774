package main

import (
	"bytes"
	"image/png"
	"strings"
	"testing"
)

// matrix reads back what a terminal shows of a QR code: true is dark.
func matrix(t *testing.T, shown string) [][]bool {
	t.Helper()
	var rows [][]bool
	for line := range strings.Lines(shown) {
		line, hasStart := strings.CutPrefix(strings.TrimSuffix(line, "\n"), blackOnWhite)
		line, hasEnd := strings.CutSuffix(line, plain)
		if !hasStart || !hasEnd {
			t.Fatalf("the line %q does not begin and end with its colours", line)
		}
		var top, bottom []bool
		for _, r := range line {
			top = append(top, r == '█' || r == '▀')
			bottom = append(bottom, r == '█' || r == '▄')
		}
		rows = append(rows, top, bottom)
	}
	return rows
}

const sampleLink = "countersign://auth.example.org:8443/enroll?id=37ywuxhnnbl67wyezyzoe7amvo&pin=" +
	"immgjuankyjyai6cvngm7ujj2lsdk3ow7ydyfgbswqk2kl7utopa&token=m2y5lfcbt4mi5r4okht7r24klf"

func TestQRInATerminal(t *testing.T) {
	code, err := newQR(sampleLink)
	if err != nil {
		t.Fatal(err)
	}
	rows := matrix(t, code.terminal())
	size := code.Size + 2*quietZone
	if len(rows) < size || len(rows) > size+1 {
		t.Fatalf("%d rows, want %d or one more", len(rows), size)
	}
	for y, row := range rows {
		if len(row) != size {
			t.Fatalf("row %d has %d modules, want %d", y, len(row), size)
		}
		for x, dark := range row {
			inside := x >= quietZone && y >= quietZone && x < size-quietZone && y < size-quietZone
			if want := inside && code.Black(x-quietZone, y-quietZone); dark != want {
				t.Fatalf("module %d,%d is dark: %v, want %v", x, y, dark, want)
			}
		}
	}
	if size > 78 {
		t.Errorf("the code is %d characters wide, want it to fit into a terminal of 80", size)
	}
}

func TestQRAsAPicture(t *testing.T) {
	code, err := newQR(sampleLink)
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(code.PNG()))
	if err != nil {
		t.Fatal(err)
	}
	if want := (code.Size + 2*quietZone) * code.Scale; picture.Bounds().Dx() != want {
		t.Fatalf("the picture is %d pixels wide, want %d", picture.Bounds().Dx(), want)
	}
	for y := -quietZone; y < code.Size+quietZone; y++ {
		for x := -quietZone; x < code.Size+quietZone; x++ {
			r, _, _, _ := picture.At((x+quietZone)*code.Scale+1, (y+quietZone)*code.Scale+1).RGBA()
			if dark := r < 0x8000; dark != code.black(x, y) {
				t.Fatalf("module %d,%d is dark: %v, want %v", x, y, dark, code.black(x, y))
			}
		}
	}
}
