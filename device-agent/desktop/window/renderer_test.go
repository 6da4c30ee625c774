package window

import (
	"image"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"

	"github.com/countersignd/countersign/device-agent/desktop/desk"
)

// The toolkit drops the renderers of what it has not drawn for a minute, and after a sleep
// of the machine it takes all for that. Those that it has made anew, it draws without a
// word of how large they are. All looks as it did.
func TestWidgetsOutliveTheirRenderers(t *testing.T) {
	app := test.NewTempApp(t)
	app.Settings().SetTheme(NewTheme())
	m, p := LoadMessages("en"), PaletteOf(theme.VariantLight)
	face := func(v desk.View) fyne.CanvasObject {
		f := NewFace(m, p)
		f.Drawn = func(string) {}
		f.Show(v)
		return f.Content()
	}
	cleaned := time.Now() // by the toolkit, at the latest
	for name, draw := range map[string]func() fyne.CanvasObject{
		"prompt": func() fyne.CanvasObject { return face(ask(prompt())) },
		"code":   func() fyne.CanvasObject { return face(codeOf(prompt())) },
		"sheet": func() fyne.CanvasObject {
			s := NewSheet(m, p)
			for range 10 { // more than the window holds
				s.Entry("first.name", "Ada's desktop", false)
				s.Entry("first.passphrase", "correct horse", true)
				s.Buttons(Button{"home.close", nil}, Button{"home.quit", nil})
			}
			return s.Content()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// The clock here begins long ago, and the toolkit's must not go back.
				time.Sleep(time.Until(cleaned.Add(time.Hour)))
				test.NewTempWindow(t, nil).Canvas().Capture() // tells the toolkit the time
				w := test.NewTempWindow(t, draw())
				w.SetPadded(false)
				w.Resize(w.Content().MinSize())
				before := w.Canvas().Capture()
				time.Sleep(2 * time.Minute)
				after := w.Canvas().Capture()
				cleaned = time.Now()
				if !slices.Equal(before.(*image.NRGBA).Pix, after.(*image.NRGBA).Pix) {
					t.Error("it looks otherwise than before")
				}
			})
		})
	}
}
