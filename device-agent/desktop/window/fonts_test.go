package window

import (
	"bytes"
	"testing"

	"fyne.io/fyne/v2/theme"
	"github.com/go-text/typesetting/font"
)

// Every letter of the messages is in the fonts that come along, so that what the
// windows say does not depend on the fonts of the machine.
func TestMessagesAreInTheFonts(t *testing.T) {
	for style, data := range map[string][2][]byte{
		"regular": {hebrewRegular, theme.DefaultTextFont().Content()},
		"bold":    {hebrewBold, theme.DefaultTextBoldFont().Content()},
	} {
		var faces []*font.Face
		for _, d := range data {
			face, err := font.ParseTTF(bytes.NewReader(d))
			if err != nil {
				t.Fatal(err)
			}
			faces = append(faces, face)
		}
		for _, language := range languages {
			for key, text := range readMessages(language).texts {
				for _, r := range text + "“”" {
					_, first := faces[0].NominalGlyph(r)
					if _, second := faces[1].NominalGlyph(r); !first && !second {
						t.Errorf("%s, %s: %q of %s is in no font", style, language, r, key)
					}
				}
			}
		}
	}
}
