package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/countersignd/countersign/internal/statement"
)

// wantFinding fails the test unless the first finding is about the record and
// says so.
func wantFinding(t testing.TB, what string, got Result, record uint64, words string) {
	t.Helper()
	if len(got.Findings) == 0 || got.Findings[0].Record != record || !strings.Contains(got.Findings[0].Problem, words) {
		t.Errorf("%s: findings %q, want first that of record %d: … %s", what, got.Findings, record, words)
	}
}

func TestAnHonestRecordVerifies(t *testing.T) {
	b := story(t)
	export := b.export()
	early := b.checkpoint(b.documents()[:9])
	got := verify(t, export, early)
	if len(got.Findings) > 0 {
		t.Fatalf("findings: %q", got.Findings)
	}
	if want := uint64(len(b.records)); got.Records != want || got.Head.Size != want || got.Statements != 15 {
		t.Errorf("Verify = %d records, %d in the checkpoint, %d statements; want %d, %d, 15", got.Records, got.Head.Size, got.Statements, want, want)
	}
	if !got.Head.Time.Equal(b.now.Truncate(time.Second)) {
		t.Errorf("time = %v, want %v", got.Head.Time, b.now)
	}
}

// TestA14EachChangeIsNamed alters an export as somebody would who has no keys: the
// first finding names the place.
func TestA14EachChangeIsNamed(t *testing.T) {
	b := story(t)
	honest := b.export()
	last := len(honest) - 1 // the number of the last record, and the index of the checkpoint
	later := story(t).export()
	edit := func(i int, old, new string) func([]string) []string {
		return func(l []string) []string {
			if !strings.Contains(l[i-1], old) {
				t.Fatalf("record %d has no %q: %s", i, old, l[i-1])
			}
			l[i-1] = strings.Replace(l[i-1], old, new, 1)
			return l
		}
	}
	for _, test := range []struct {
		name   string
		alter  func([]string) []string
		record uint64
		words  string
	}{
		{"an address edited", edit(6, "203.0.113.7", "203.0.113.9"), 6, "names as the one before it"},
		{"an actor edited", edit(20, "root", "ada"), 20, "names as the one before it"},
		{"a time edited", edit(21, "2026-11-22", "2026-11-23"), 21, "names as the one before it"},
		{"a byte of a statement", edit(7, `"statement":"eyJ`, `"statement":"eyK`), 7, "not signed so"},
		{"the last record edited", edit(last, `"server"`, `"device"`), uint64(last), "it was changed"},
		{"no JSON any more", edit(8, `{"account"`, `["account"`), 8, "not JSON"},
		{"a space put in", edit(8, `{"account":`, `{"account": `), 8, "canonical"},
		{"a member put in", edit(8, `{"account":`, `{"a":1,"account":`), 8, "not JSON with the members"},
		{"the first dropped", func(l []string) []string { return l[1:] }, 1, "it is missing, record 2 follows"},
		{"one dropped", func(l []string) []string { return slices.Delete(l, 6, 7) }, 7, "it is missing, record 8 follows"},
		{"three dropped", func(l []string) []string { return slices.Delete(l, 6, 9) }, 7, "up to record 9"},
		{"two swapped", func(l []string) []string { l[16], l[17] = l[17], l[16]; return l }, 17, "missing, record 18 follows"},
		{"one twice", func(l []string) []string { return slices.Insert(l, 7, l[6]) }, 7, "it is there twice"},
		{"one put in, of another record", func(l []string) []string { return slices.Insert(l, 7, later[7]) }, 7, "names as the one before it"},
		{"one replaced, of another record", func(l []string) []string { l[6] = later[6]; return l }, 6, "names as the one before it"},
		{"the last dropped", func(l []string) []string { return slices.Delete(l, last-1, last) }, uint64(last), "it is missing: the checkpoint"},
		{"the end dropped", func(l []string) []string { return slices.Delete(l, 12, last) }, 13, fmt.Sprintf("up to record %d", last)},
		{"one appended", func(l []string) []string {
			return slices.Insert(l, last, string(Record{Event: "x", Actor: root, Salt: NewSalt(), Sequence: uint64(last + 1), Time: start, Previous: HashString(Hash([]byte(l[last-1])))}.Document()))
		}, uint64(last + 1), "not in the tree"},
		{"something after the checkpoint", func(l []string) []string { return append(l, l[0]) }, 0, "follows its checkpoint"},
		{"the checkpoint of an older record", func(l []string) []string { l[last] = string(b.checkpoint(b.documents()[:20]).Line()); return l }, 21, "not in the tree"},
		{"another record's checkpoint", func(l []string) []string { l[last] = later[last]; return l }, uint64(last), "it was changed"},
		{"a bit of the checkpoint", edit(last+1, `{"checkpoint":"eyJhbGciOiJ`, `{"checkpoint":"eyJhbGciOiK`), 0, "not signed by the key"},
		{"a checkpoint that is none", func(l []string) []string { l[last] = `{"checkpoint":1}`; return l }, 0, "not a checkpoint"},
	} {
		wantFinding(t, test.name, verify(t, test.alter(slices.Clone(honest))), test.record, test.words)
	}
}

// TestA14AnyByteShows changes any byte of any line of an export, and cuts it off
// anywhere: it never verifies.
func TestA14AnyByteShows(t *testing.T) {
	text := strings.Join(story(t).export(), "\n") + "\n"
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(text)
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "cut") {
			b = b[:at]
		} else {
			b[at] ^= rapid.ByteRange(1, 255).Draw(t, "difference")
		}
		// The last part of a JWS has spellings that nobody but its maker can
		// choose between; a changed one does not verify either.
		result, err := VerifyExport(bytes.NewReader(b))
		if err == nil && len(result.Findings) == 0 {
			t.Fatalf("byte %d changed, and the record verifies", at)
		}
	})
}

// TestA14ARewrittenRecordShowsToThoseWhoRemember is a server, or whoever has its
// signing key, that makes the record anew with all hashes and a fresh
// checkpoint. Only what is remembered elsewhere tells, and narrows the place.
func TestA14ARewrittenRecordShowsToThoseWhoRemember(t *testing.T) {
	b := story(t)
	documents := b.documents()
	at := func(n int) Checkpoint { return b.checkpoint(documents[:n]) }
	n := len(documents)
	early, middle, whole := at(9), at(15), at(n)
	upTo := fmt.Sprintf("up to record %d", n)
	for _, test := range []struct {
		name       string
		rewrite    func(b *book)
		remembered []Checkpoint
		record     uint64
		words      string
	}{
		{"an address", func(b *book) { b.records[n-2].Address = "192.0.2.1" }, []Checkpoint{whole, early, middle}, 16, "or one after it " + upTo},
		{"a reason", func(b *book) { b.records[19].Detail = "nothing" }, []Checkpoint{whole}, 1, upTo},
		{"dropped", func(b *book) { b.records = slices.Delete(b.records, 19, 21) }, []Checkpoint{early, middle, whole}, uint64(n - 1), "the end was cut off, or the server set back"},
		{"cut off", func(b *book) { b.records = b.records[:20] }, []Checkpoint{early, whole}, 21, fmt.Sprintf("there were %d records, which a device remembers", n)},
	} {
		forged := &book{t: t, signing: b.signing, tlsKey: b.tlsKey, records: slices.Clone(b.records), now: b.now}
		test.rewrite(forged)
		if got := verify(t, forged.export()); len(got.Findings) > 0 {
			t.Errorf("%s: findings without a remembered checkpoint: %q, want none", test.name, got.Findings)
		}
		wantFinding(t, test.name, verify(t, forged.export(), test.remembered...), test.record, test.words)
	}
	// Another key, and another deployment's checkpoint.
	thief := &book{t: t, signing: newKey(t), tlsKey: b.tlsKey, records: b.records, now: b.now}
	wantFinding(t, "another key", verify(t, thief.export(), early), 0, "another key")
	broken := early
	broken.Statement = whole.Statement[:len(whole.Statement)-4] + "AAAA"
	if _, err := NewVerifier(broken); !errors.Is(err, statement.ErrInvalid) {
		t.Errorf("NewVerifier(forged) = %v, want ErrInvalid", err)
	}
}

func TestPartOfARecordIsNotTakenForTheWhole(t *testing.T) {
	export := story(t).export()
	for name, text := range map[string]string{
		"empty":            "",
		"no checkpoint":    strings.Join(export[:5], "\n") + "\n",
		"cut off":          strings.Join(export[:5], "\n"),
		"an endless line":  strings.Repeat("x", MaxDocument+100),
		"checkpoint alone": export[len(export)-1],
	} {
		if _, err := VerifyExport(strings.NewReader(text)); !errors.Is(err, ErrPart) {
			t.Errorf("%s: VerifyExport = %v, want ErrPart", name, err)
		}
	}
	bad := errors.New("bad disk")
	if _, err := VerifyExport(failing{bad}); !errors.Is(err, bad) {
		t.Errorf("VerifyExport(unreadable) = %v, want %v", err, bad)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestFindingsAreBounded: one forged record can spoil a million others.
func TestFindingsAreBounded(t *testing.T) {
	b := newBook(t)
	for range 1000 {
		b.add(ofAccount(EventAccountResumed, "nobody"))
	}
	got := verify(t, b.export())
	if len(got.Findings) != maxFindings || got.More != 1000-maxFindings {
		t.Errorf("%d findings and %d more, want %d and %d", len(got.Findings), got.More, maxFindings, 1000-maxFindings)
	}
}

// TestMemoryDoesNotGrowWithTheRecord: what a Verifier keeps of sign-ins is those
// of the last hour.
func TestMemoryDoesNotGrowWithTheRecord(t *testing.T) {
	b := newBook(t)
	b.add(ofAccount(EventAccountAdded, "ada"))
	for i := range 5000 {
		b.now = b.now.Add(time.Minute)
		b.begin("ada", fmt.Sprint(i))
	}
	v, err := NewVerifier()
	if err != nil {
		t.Fatal(err)
	}
	documents := b.documents()
	for _, d := range documents {
		v.Add(d)
	}
	if n := len(v.trust.signIns); n > 61 || n != len(v.trust.begun) {
		t.Errorf("%d and %d sign-ins are kept, want those of an hour", n, len(v.trust.begun))
	}
	if got := v.Finish(b.checkpoint(documents)); len(got.Findings) > 0 {
		t.Errorf("findings: %q", got.Findings)
	}
}

func FuzzVerifyExport(f *testing.F) {
	// Short, because the fuzzer tries to shorten what it finds.
	b := newBook(f)
	b.add(ofAccount(EventAccountAdded, "ada"))
	export := b.export()
	f.Add([]byte(strings.Join(export, "\n") + "\n"))
	f.Add([]byte(export[0] + "\n" + export[2] + "\n"))
	f.Add([]byte(strings.Join(export[:2], "\n") + "\n"))
	f.Add([]byte("{}\n[]\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		result, err := VerifyExport(bytes.NewReader(text))
		if err != nil || len(result.Findings) > 0 {
			return
		}
		// Then every line counts: there are as many as the checkpoint says, and
		// without the last of them it is another record.
		all := bytes.SplitAfter(text, []byte("\n"))
		if n := uint64(len(all)) - 2; n != result.Records || n != result.Head.Size {
			t.Errorf("an export of %d documents verifies as %d of %d", n, result.Records, result.Head.Size)
		}
		short := slices.Concat(bytes.Join(all[:len(all)-3], nil), all[len(all)-2])
		if result, err := VerifyExport(bytes.NewReader(short)); err != nil || len(result.Findings) == 0 {
			t.Errorf("without its last document it verifies as well: %v", err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, d := range story(f).documents() {
		f.Add(d)
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		// What the decoder of the standard library reads is what must be read.
		var want Record
		spelled := json.Unmarshal(document, &want) == nil && bytes.Equal(want.Document(), document)
		r, err := Parse(document)
		if err == nil && (!spelled || r != want) {
			t.Errorf("Parse(%q) = %+v, want %+v, if that is how it is spelled: %v", document, r, want, spelled)
		}
		_, offset := want.Time.Zone()
		whole := len(document) <= MaxDocument && offset == 0 && want.Time.Year() >= 1970 &&
			0 < want.Sequence && want.Sequence < 1<<53 && want.Event != "" && want.Actor.Kind != "" && want.Salt != ""
		if err != nil && spelled && whole {
			t.Errorf("Parse(%q) = %v, want nil", document, err)
		}
	})
}

func TestParseTakesOneSpelling(t *testing.T) {
	r := Record{
		Account: "ada", Actor: Actor{ID: "uid 0 (root)", Kind: ActorAdministrator}, Detail: "a \"reason\"", Event: EventDeviceRevoked,
		Salt: NewSalt(), Sequence: 7, Time: start,
	}
	valid := string(r.Document())
	if got, err := Parse([]byte(valid)); err != nil || got != r {
		t.Fatalf("Parse(%s) = %+v, %v, want %+v", valid, got, err, r)
	}
	r.Detail = ""
	plain := string(r.Document())
	for _, test := range []struct{ old, new, words string }{
		{`"ada"`, `"ada" `, "canonical"},
		{`"ada"`, `"\u0061da"`, "canonical"},
		{`"ada"`, `null`, "canonical"},
		{`"ada"`, "\"\xff\"", "canonical"},
		{`"account"`, `"Account"`, "canonical"},
		{`"account":`, `"account":"eve","account":`, "canonical"},
		{`"sequence":7`, `"sequence":07`, "not JSON"},
		{`"sequence":7`, `"sequence":7.0`, "not JSON"},
		{`"sequence":7`, `"sequence":"7"`, "not JSON"},
		{`"sequence":7`, `"sequence":0`, "number"},
		{`"sequence":7`, `"sequence":9007199254740992`, "number"},
		{`"sequence":7`, `"a":1,"sequence":7`, "not JSON with the members"},
		{`"sequence":7,`, ``, "canonical"},
		{`Z"}`, `Z"} `, "canonical"},
		{`Z"}`, `Z"}` + "\n", "canonical"},
		{`Z"}`, `Z",}`, "not JSON"},
		{`Z"}`, `Z"`, "not JSON"},
		{`Z"}`, `Z"}{}`, "canonical"},
		{`789Z"`, `7890Z"`, "canonical"},
		{`789Z"`, `789+00:00"`, "canonical"},
		{`789Z"`, `789+01:00"`, "not in UTC"},
		{`789Z"`, `789+25:00"`, "not JSON"},
		{`"2026`, `"1969`, "not in UTC"},
		{`"2026`, `"0000`, "not in UTC"},
		{`"2026`, `"12026`, "not JSON"},
		{`T18:`, `T24:`, "not JSON"},
		{`"2026-11-22T18:00:00.123456789Z"`, `null`, "canonical"},
	} {
		for _, text := range []string{valid, plain} {
			document := strings.Replace(text, test.old, test.new, 1)
			if got, err := Parse([]byte(document)); err == nil || !strings.Contains(err.Error(), test.words) || got != (Record{}) {
				t.Errorf("Parse(%q) = %+v, %v, want words like %q", document, got, err, test.words)
			}
		}
	}
}

// BenchmarkVerify prints how many records a second are verified: of five, two
// have a statement.
func BenchmarkVerify(b *testing.B) {
	book := newBook(b)
	book.add(ofAccount(EventAccountAdded, "ada"))
	mac := book.enroll("ada")
	for i := range 200 {
		q := book.begin("ada", fmt.Sprint(i))
		book.add(mac.allowed(q))
		book.add(mac.verified(q, afterAllow))
		book.add(mac.codeRequested())
		book.add(Record{Event: "code.wrong", Actor: Actor{ID: "files", Kind: ActorApplication}, Account: "ada"})
	}
	text := []byte(strings.Join(book.export(), "\n") + "\n")
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if result, err := VerifyExport(bytes.NewReader(text)); err != nil || len(result.Findings) > 0 {
			b.Fatal(err, result.Findings)
		}
	}
	b.ReportMetric(float64(b.N*len(book.records))/b.Elapsed().Seconds(), "records/s")
}
