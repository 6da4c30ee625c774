package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/countersignd/countersign/server/approval"
)

// sound makes a store with pages of every kind, and returns the bytes of a backup,
// which has no more pages than it uses, with the kind of each page.
func sound(t testing.TB) (content []byte, kinds []string) {
	t.Helper()
	s := open(t, newPath(t), Options{})
	put := func(bucket string, n, size int) {
		err := s.Update(t.Context(), func(tx approval.Tx) error {
			for i := range n {
				if err := tx.Put(bucket, fmt.Sprintf("key%05d", i), bytes.Repeat([]byte{byte(i)}, size)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("many", 400, 100)   // a branch and leaves
	put("large", 2, 10_000) // pages that overflow
	put("small", 3, 10)     // a bucket within a leaf
	put("freed", 40, 1000)
	err := s.Update(t.Context(), func(tx approval.Tx) error {
		for i := range 40 {
			if err := tx.Delete("freed", fmt.Sprintf("key%05d", i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	put("small", 3, 11)

	dst := newPath(t)
	if _, err := s.Backup(t.Context(), dst, nil); err != nil {
		t.Fatal(err)
	}
	content = readFile(t, dst)
	db, err := bolt.Open(dst, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	b, err := db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Rollback()
	for id := 0; id < len(content)/os.Getpagesize(); {
		info, err := b.Page(id)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, info.Type)
		if id++; info.Type != "free" {
			for range info.OverflowCount {
				kinds = append(kinds, "overflow")
				id++
			}
		}
	}
	for _, want := range []string{"meta", "freelist", "leaf", "branch", "overflow", "free"} {
		if !strings.Contains(strings.Join(kinds, " "), want) {
			t.Fatalf("the pages are %q, want a %s among them", kinds, want)
		}
	}
	return content, kinds
}

// harmless looks at a file in children that may do what they like but hang, and
// returns the sentence of the check, which must find all that bbolt's own check
// finds. An Open without a check must hold, too.
func harmless(t *testing.T, content []byte) error {
	t.Helper()
	path := newPath(t)
	writeFile(t, path, content, 0o600)
	checked := CheckInChild(t.Context(), path, 20*time.Second, inChild(t, "check")...)
	if checked == nil {
		if err := CheckInChild(t.Context(), path, 20*time.Second, inChild(t, "check-by-bbolt")...); err != nil {
			t.Errorf("Check = nil, but by bbolt %v", err)
		}
	}
	opened := CheckInChild(t.Context(), path, 20*time.Second, inChild(t, "open")...)
	for call, err := range map[string]error{"Check": checked, "Open": opened} {
		if err == nil {
			continue
		}
		if text := err.Error(); !strings.Contains(text, path) || strings.Contains(text, "\n") || !strings.Contains(text, "backup") {
			t.Errorf("%s = %q, want one line with the path that tells what to do", call, text)
		}
		if strings.Contains(err.Error(), "did not end") {
			t.Errorf("%s = %q, want it to end", call, err)
		}
	}
	if opened != nil && strings.Contains(opened.Error(), "its check ended with") {
		t.Errorf("Open crashed: %v", opened)
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	return checked
}

// checkByBbolt has bbolt check the file at path, and reads all of its rows.
func checkByBbolt(path string) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		return err
	}
	return db.View(func(b *bolt.Tx) error {
		for err := range b.Check() {
			return err // The next one may never come.
		}
		return b.ForEach(func(_ []byte, bucket *bolt.Bucket) error {
			return bucket.ForEach(func(_, value []byte) error {
				bytes.Count(value, []byte{0}) // which reads it to its end
				return nil
			})
		})
	})
}

func TestCheckSound(t *testing.T) {
	content, _ := sound(t)
	if err := harmless(t, content); err != nil {
		t.Errorf("check of a sound file = %v, want nil", err)
	}
}

func TestCheckTruncated(t *testing.T) {
	content, _ := sound(t)
	page := os.Getpagesize()
	for _, size := range []int{0, 1, 15, 100, page - 1, page, page + 1, 2*page - 1, 2 * page, 3 * page, len(content) / 2, len(content) - page, len(content) - 1} {
		if err := harmless(t, content[:size]); err == nil {
			t.Errorf("check of the first %d of %d bytes = nil, want an error", size, len(content))
		}
	}
}

// bbolt has no checksums on its pages but the first two, so not every flipped bit
// can be found: those of values cannot. Those of the structure can.
func TestCheckFlippedBits(t *testing.T) {
	content, kinds := sound(t)
	page := os.Getpagesize()
	flip := func(offsets ...int) error {
		damaged := bytes.Clone(content)
		for _, offset := range offsets {
			damaged[offset] ^= 1 << (offset % 8)
		}
		return harmless(t, damaged)
	}
	const id, flags, count, overflow, elements = 0, 8, 10, 12, 16
	seen := make(map[string]int)
	for n, kind := range kinds {
		if seen[kind]++; seen[kind] > 3 {
			continue // One page of a kind is like another.
		}
		start := n * page
		for _, offset := range []int{id, flags, count, overflow, elements, elements + 4, elements + 8, elements + 12, 40, 64, page / 2, page - 1} {
			err := flip(start + offset)
			structural := kind == "leaf" || kind == "branch" || kind == "freelist"
			if structural && (offset == flags || offset == id && kind != "freelist") && err == nil {
				t.Errorf("check with byte %d of page %d (%s) flipped = nil, want an error", offset, n, kind)
			}
		}
	}
	for _, offset := range []int{elements, elements + 4, elements + 8, 40, 64, 70} {
		if err := flip(offset, page+offset); err == nil {
			t.Errorf("check with byte %d of both meta pages flipped = nil, want an error", offset)
		}
	}
}

func TestCheckRandomPages(t *testing.T) {
	content, kinds := sound(t)
	page := os.Getpagesize()
	random := rand.New(rand.NewPCG(1, 2))
	fill := func(p []byte) {
		for i := range p {
			p[i] = byte(random.Uint32())
		}
	}
	for n, kind := range kinds {
		if kind != "leaf" && kind != "branch" && kind != "freelist" || random.IntN(2) == 0 {
			continue
		}
		damaged := bytes.Clone(content)
		fill(damaged[n*page+firstFilled(kind, random) : (n+1)*page])
		harmless(t, damaged)
	}
	all := bytes.Clone(content)
	fill(all)
	if err := harmless(t, all); err == nil {
		t.Error("check of random bytes = nil, want an error")
	}
}

// firstFilled returns where to begin to overwrite a page: with its header, or
// after it, so that bbolt goes on reading.
func firstFilled(kind string, random *rand.Rand) int {
	if kind == "freelist" || random.IntN(3) > 0 {
		return 16
	}
	return 0
}

// A number that leads out of the file makes bbolt read memory that is not there.
// That is a panic here, not the end of the process.
func TestCheckBeyondFile(t *testing.T) {
	content, kinds := sound(t)
	page := os.Getpagesize()
	meta := 0
	if binary.NativeEndian.Uint64(content[page+64:]) > binary.NativeEndian.Uint64(content[64:]) { // transaction ids
		meta = page
	}
	root := int(binary.NativeEndian.Uint64(content[meta+32:])) * page
	freelist := int(binary.NativeEndian.Uint64(content[meta+48:])) * page
	leaf := slices.Index(kinds, "leaf") * page
	for leaf == root || content[leaf+16] != 0 { // not one with buckets
		leaf += page * (1 + slices.Index(kinds[leaf/page+1:], "leaf"))
	}
	for name, change := range map[string]func(b []byte){
		"a list of free pages": func(b []byte) {
			binary.NativeEndian.PutUint16(b[freelist+10:], 0xffff) // its length comes first
			binary.NativeEndian.PutUint64(b[freelist+16:], 1<<20)
		},
		"the name of a bucket": func(b []byte) { binary.NativeEndian.PutUint32(b[root+16+4:], 1<<30) },
		"a value":              func(b []byte) { binary.NativeEndian.PutUint32(b[leaf+16+12:], MaxValue) },
	} {
		b := bytes.Clone(content)
		change(b)
		if err := harmless(t, b); err == nil || strings.Contains(err.Error(), "its check ended with") {
			t.Errorf("check with %s beyond the file = %v, want an error and no crash", name, err)
		}
	}
}

// A page that leads back to itself must not be walked for ever.
func TestCheckCircle(t *testing.T) {
	content, kinds := sound(t)
	page := os.Getpagesize()
	for n, kind := range kinds {
		if kind != "branch" {
			continue
		}
		circle := bytes.Clone(content)
		binary.NativeEndian.PutUint64(circle[n*page+16+8:], uint64(n)) // the first element's page
		if err := harmless(t, circle); err == nil {
			t.Errorf("check with branch page %d as its own child = nil, want an error", n)
		}
	}
}

func TestCheckStrangeRows(t *testing.T) {
	for name, strange := range map[string]map[string]string{
		"an empty value": {"k": ""},
		"a long key":     {strings.Repeat("k", MaxKey+1): "v"},
		"a big value":    {"k": strings.Repeat("v", MaxValue+1)},
	} {
		path := newBolt(t, formatBucket, map[string]string{formatKey: formatValue, schemaKey: "1"})
		addBucket(t, path, "b", strange)
		if err := Check(t.Context(), path); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("Check with %s = %v, want it to say damaged", name, err)
		}
	}
}

func addBucket(t *testing.T, path, name string, rows map[string]string) {
	t.Helper()
	s := open(t, path, Options{})
	defer s.Close()
	b, err := s.db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := b.CreateBucket([]byte(name))
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range rows {
		if err := bucket.Put([]byte(key), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestCheckChangesNothing(t *testing.T) {
	content, _ := sound(t)
	path := newPath(t)
	writeFile(t, path, content, 0o600)
	if err := Check(t.Context(), path); err != nil {
		t.Errorf("Check = %v, want nil", err)
	}
	if !bytes.Equal(readFile(t, path), content) {
		t.Error("Check changed the file")
	}
}

func TestCheckCancelled(t *testing.T) {
	content, _ := sound(t)
	path := newPath(t)
	writeFile(t, path, content, 0o600)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Check(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("Check(cancelled context) = %v, want %v", err, context.Canceled)
	}
}

func TestCheckInChild(t *testing.T) {
	content, _ := sound(t)
	path := newPath(t)
	writeFile(t, path, content, 0o600)
	for mode, want := range map[string]string{
		"hang":   "its check did not end within 200ms",
		"crash":  "its check ended with exit status 2: panic: the check crashed",
		"silent": "its check ended with exit status 1)",
	} {
		err := CheckInChild(t.Context(), path, limit(mode), inChild(t, mode)...)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("CheckInChild(%s) = %q, want one line that says %q and the path", mode, err, want)
		}
	}
	if err := CheckInChild(t.Context(), path+".missing", time.Minute, inChild(t, "check")...); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("CheckInChild(missing file) = %v, want %v", err, fs.ErrNotExist)
	}
	err := CheckInChild(t.Context(), path, time.Minute, filepath.Join(t.TempDir(), "no-such-program"))
	if !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "damaged") {
		t.Errorf("CheckInChild(missing program) = %v, want %v, which is no damage", err, fs.ErrNotExist)
	}
	if err := CheckInChild(t.Context(), path, time.Minute); err == nil {
		t.Error("CheckInChild(no program) = nil, want an error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := CheckInChild(ctx, path, time.Minute, inChild(t, "hang")...); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "damaged") {
		t.Errorf("CheckInChild(context that ends) = %v, want %v, which is no damage", err, context.DeadlineExceeded)
	}
}

// limit leaves the children that are to end by themselves enough time.
func limit(mode string) time.Duration {
	if mode == "hang" {
		return 200 * time.Millisecond
	}
	return time.Minute
}
