package window

import (
	"embed"
	"encoding/json"
	"strings"
)

//go:embed messages/*.json
var messageFiles embed.FS

// Messages are the words of the windows in one language. A message file is one flat
// JSON object from key to text, as the toolkit's own are; {name} in a text stands for
// what is put there.
type Messages struct {
	texts map[string]string
	rtl   bool // it is written from right to left
}

// languages are those there are message files for.
var languages = []string{"en", "de", "he"}

// LoadMessages returns the messages for a locale such as "de", "de_AT" or
// "he-IL", or the English ones if there are none.
func LoadMessages(locale string) *Messages {
	language, _, _ := strings.Cut(strings.ReplaceAll(locale, "-", "_"), "_")
	for _, have := range languages {
		if strings.EqualFold(language, have) || have == "he" && strings.EqualFold(language, "iw") {
			return readMessages(have)
		}
	}
	return readMessages("en")
}

func readMessages(language string) *Messages {
	data, err := messageFiles.ReadFile("messages/" + language + ".json")
	m := &Messages{}
	if err == nil {
		err = json.Unmarshal(data, &m.texts)
	}
	if err != nil { // it is part of the program
		panic("messages: " + language + ": " + err.Error())
	}
	m.rtl = m.texts["direction"] == "rtl"
	return m
}

// Say returns a text. values are names and what they stand for, in turn. Only what
// this program or the server's administrator chose is put into a text, never what a
// requester did.
func (m *Messages) Say(key string, values ...string) string {
	s, ok := m.texts[key]
	if !ok { // a test looks for it in all files
		return key
	}
	for i := 0; i+1 < len(values); i += 2 {
		s = strings.ReplaceAll(s, "{"+values[i]+"}", values[i+1])
	}
	return s
}

// Has reports whether there is such a text.
func (m *Messages) Has(key string) bool {
	_, ok := m.texts[key]
	return ok
}
