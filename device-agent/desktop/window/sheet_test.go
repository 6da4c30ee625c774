package window

import (
	"testing"
	"time"

	"fyne.io/fyne/v2"
	"fyne.io/fyne/v2/canvas"
	"fyne.io/fyne/v2/test"
	"fyne.io/fyne/v2/theme"

	"github.com/countersignd/countersign/device-agent/desktop/desk"
)

// A long list of devices can be walked through with the keyboard alone: what it comes
// to is in sight.
func TestSheetFollowsTheKeyboard(t *testing.T) {
	app := test.NewTempApp(t)
	app.Settings().SetTheme(NewTheme())
	s := NewSheet(LoadMessages("en"), PaletteOf(theme.VariantLight))
	const devices = 20
	pressed := -1
	for i := range devices {
		s.Named("field.device", "A device", "")
		s.Words("home.words", "mfrggzdfmztwq2lknnwg23tpobyxe43uov3ho6dzpiydcmrtgq2q")
		s.Buttons(Button{"devices.revoke", func() { pressed = i }})
	}
	w := test.NewTempWindow(t, s.Content())
	w.Resize(fyne.NewSize(sheetWidth, sheetHigh))
	s.made = s.made.Add(-desk.MinLook)
	for i := range devices {
		w.Canvas().FocusNext()
		c, ok := w.Canvas().Focused().(*choice)
		if !ok {
			t.Fatalf("the keyboard is at %T, want a button", w.Canvas().Focused())
		}
		if top := s.scroll.Offset.Y; c.Position().Y < top || c.Position().Y+c.Size().Height > top+sheetHigh {
			t.Errorf("button %d at %v is out of sight, which begins at %v", i, c.Position().Y, top)
		}
		c.TypedKey(&fyne.KeyEvent{Name: fyne.KeyReturn})
		if pressed != i {
			t.Errorf("Return pressed %d, want %d", pressed, i)
		}
	}
}

func TestSheetPressesInTheFirstMomentDoNothing(t *testing.T) {
	app := test.NewTempApp(t)
	app.Settings().SetTheme(NewTheme())
	s := NewSheet(LoadMessages("en"), PaletteOf(theme.VariantLight))
	pressed := 0
	s.Buttons(Button{"revoke.do", func() { pressed++ }})
	w := test.NewTempWindow(t, s.Content())
	w.Canvas().FocusNext()
	c := w.Canvas().Focused().(*choice)
	s.made = time.Now().Add(time.Hour)
	test.Tap(c)
	c.TypedKey(&fyne.KeyEvent{Name: fyne.KeySpace})
	if pressed != 0 {
		t.Error("a press in the first moment was taken")
	}
	s.made = time.Now().Add(-desk.MinLook)
	test.Tap(c)
	if pressed != 1 {
		t.Error("a press afterwards was not taken")
	}
}

// Labels that need two lines push down what comes next.
func TestLabelsDoNotOverlap(t *testing.T) {
	app := test.NewTempApp(t)
	app.Settings().SetTheme(NewTheme())
	for _, language := range languages {
		m := LoadMessages(language)
		s := NewSheet(m, PaletteOf(theme.VariantLight))
		for key := range m.texts {
			s.Field(key, "x")
		}
		var texts []*canvas.Text
		for _, o := range s.page.objects {
			texts = append(texts, o.(*canvas.Text))
		}
		for i, a := range texts {
			for _, b := range texts[i+1:] {
				p, q := a.Position(), b.Position()
				if p.X < q.X+b.Size().Width-0.5 && q.X < p.X+a.Size().Width-0.5 && p.Y < q.Y+b.TextSize && q.Y < p.Y+a.TextSize {
					t.Errorf("%s: %q at %v lies over %q at %v", language, a.Text, p, b.Text, q)
				}
			}
		}
	}
}
