package window

import (
	_ "embed"
	"image/color"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/theme"

	"github.com/countersignd/countersign/device-agent/desktop/world"
)

//go:embed fonts/NotoSansHebrew-Regular.ttf
var hebrewRegular []byte

//go:embed fonts/NotoSansHebrew-Bold.ttf
var hebrewBold []byte

var (
	regularFont = fyne.NewStaticResource("NotoSansHebrew-Regular.ttf", hebrewRegular)
	boldFont    = fyne.NewStaticResource("NotoSansHebrew-Bold.ttf", hebrewBold)
)

// A Theme is the toolkit's own with the colours of a palette. Its fonts have
// Hebrew letters only; for all others the toolkit goes on to its own font, which has
// the same measures, and then to those of the system.
type Theme struct{ fyne.Theme }

// NewTheme returns the theme for the windows.
func NewTheme() Theme { return Theme{theme.DefaultTheme()} }

// Font implements [fyne.Theme].
func (t Theme) Font(style fyne.TextStyle) fyne.Resource {
	switch {
	case style.Monospace, style.Symbol, style.Italic:
		return t.Theme.Font(style)
	case style.Bold:
		return boldFont
	}
	return regularFont
}

// Color implements [fyne.Theme].
func (t Theme) Color(name fyne.ThemeColorName, variant fyne.ThemeVariant) color.Color {
	p := PaletteOf(variant)
	switch name {
	case theme.ColorNameBackground, theme.ColorNameOverlayBackground, theme.ColorNameMenuBackground:
		return p.background
	case theme.ColorNameForeground:
		return p.text
	case theme.ColorNamePrimary, theme.ColorNameFocus:
		return p.focus
	case theme.ColorNameInputBackground, theme.ColorNameButton:
		return p.button
	case theme.ColorNamePlaceHolder:
		return p.muted
	}
	return t.Theme.Color(name, variant)
}

// A Palette is the colours of the windows. All text in them has a contrast of
// at least 4.5 to what it stands on (WCAG 2.2, 1.4.3); a test sees to it.
type Palette struct {
	background, text, muted, line    color.Color
	button, hover, border, focus     color.Color
	warningBack, warningText, danger color.Color
	world                            world.Colors
}

func rgb(hex uint32) color.Color {
	return color.NRGBA{R: uint8(hex >> 16), G: uint8(hex >> 8), B: uint8(hex), A: 255}
}

var (
	light = Palette{
		background: rgb(0xffffff), text: rgb(0x1b1f24), muted: rgb(0x57606a), line: rgb(0xd0d7de),
		button: rgb(0xeef1f4), hover: rgb(0xe0e5ea), border: rgb(0x7d8590), focus: rgb(0x0b57d0),
		warningBack: rgb(0xffe3ad), warningText: rgb(0x4a2600), danger: rgb(0xa40e26),
		world: world.Colors{Sea: rgb(0xdfeaf5), Land: rgb(0xc8cfc2), Country: rgb(0x93a882), Dot: rgb(0xc62828), Ring: rgb(0xffffff)},
	}
	dark = Palette{
		background: rgb(0x1c1f24), text: rgb(0xf0f3f6), muted: rgb(0xa9b1ba), line: rgb(0x3d444d),
		button: rgb(0x2b3038), hover: rgb(0x383e47), border: rgb(0x8b949e), focus: rgb(0x7ab0ff),
		warningBack: rgb(0x5a3a00), warningText: rgb(0xffe5ad), danger: rgb(0xff9a9a),
		world: world.Colors{Sea: rgb(0x22303d), Land: rgb(0x47524c), Country: rgb(0x71856a), Dot: rgb(0xff6b5e), Ring: rgb(0x1c1f24)},
	}
)

// PaletteOf returns the palette for light or dark.
func PaletteOf(variant fyne.ThemeVariant) *Palette {
	if variant == theme.VariantDark {
		return &dark
	}
	return &light
}
