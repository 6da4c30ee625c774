package window

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// Every language says everything, and puts the same things in.
func TestMessageFilesAgree(t *testing.T) {
	english := readMessages("en").texts
	for _, language := range languages {
		texts := readMessages(language).texts
		if diff := cmp.Diff(slices.Sorted(maps.Keys(english)), slices.Sorted(maps.Keys(texts))); diff != "" {
			t.Errorf("keys of %s: -en +%s:\n%s", language, language, diff)
		}
		for key, text := range texts {
			want, got := placeholder.FindAllString(english[key], -1), placeholder.FindAllString(text, -1)
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s in %s: -en +%s:\n%s", key, language, language, diff)
			}
			if text == "" {
				t.Errorf("%s says nothing for %s", language, key)
			}
		}
	}
}

// inCode finds the keys of messages in the source: a word, a dot, a word.
var inCode = regexp.MustCompile(`"([a-z]+(?:-[a-z]+)*\.[a-z]+(?:[.-][a-z]+)*)"`)

// What the windows say is in the files, and nothing is in them that nobody says.
func TestEveryMessageIsSaid(t *testing.T) {
	said := make(map[string]bool)
	for _, pattern := range []string{"*.go", "../cmd/countersign-desktop/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("Glob(%s) = %d files, %v", pattern, len(files), err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range inCode.FindAllSubmatch(source, -1) {
				said[string(m[1])] = true
			}
		}
	}
	texts := readMessages("en").texts
	for key := range texts {
		composed := regexp.MustCompile(`^(kind|state|storage|news|recent|recent-trust|stage|refused)\.`).MatchString(key)
		if !said[key] && !composed && key != "direction" {
			t.Errorf("nobody says %s", key)
		}
	}
	for key := range said {
		if _, ok := texts[key]; !ok && !regexp.MustCompile(`\.(json|svg|ttf|lock|sock|example)$`).MatchString(key) {
			t.Errorf("%s is said and not in the files", key)
		}
	}
}

func TestLoadMessages(t *testing.T) {
	for locale, want := range map[string]string{
		"": "Allow", "en": "Allow", "fr_FR": "Allow", "C": "Allow", "de": "Erlauben", "de_AT": "Erlauben", "de-CH": "Erlauben",
		"he-IL": "לאשר", "iw": "לאשר", "HE": "לאשר",
	} {
		if got := LoadMessages(locale).Say("ask.allow"); got != want {
			t.Errorf("LoadMessages(%q) says %q, want %q", locale, got, want)
		}
	}
}
