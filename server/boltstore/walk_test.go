package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/countersignd/countersign/server/approval"
)

// Whatever is put and deleted, the check finds no fault in what is left: many
// small rows, rows that fill pages, keys so long that a tree gets deep, buckets
// that are emptied.
func TestCheckFindsNoFaultInWhatIsSound(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 7))
			path := newPath(t)
			s := open(t, path, Options{})
			var rows [4][]string
			for range 12 {
				err := s.Update(t.Context(), func(tx approval.Tx) error {
					for range random.IntN(600) {
						b := random.IntN(len(rows))
						bucket := fmt.Sprintf("bucket%d", b)
						if len(rows[b]) > 0 && random.IntN(5) < 2 {
							i := random.IntN(len(rows[b]))
							if err := tx.Delete(bucket, rows[b][i]); err != nil {
								return err
							}
							rows[b] = slices.Delete(rows[b], i, i+1)
							continue
						}
						key := fmt.Sprintf("%x", random.Uint64())
						if b == 1 {
							key += strings.Repeat("k", MaxKey-len(key))
						}
						size := 1 + random.IntN(200)
						if b == 2 && random.IntN(20) == 0 {
							size = 1 + random.IntN(MaxValue)
						}
						if err := tx.Put(bucket, key, make([]byte, size)); err != nil {
							return err
						}
						rows[b] = append(rows[b], key)
					}
					if random.IntN(4) == 0 {
						for _, key := range rows[3] {
							if err := tx.Delete("bucket3", key); err != nil {
								return err
							}
						}
						rows[3] = nil
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				copied := newPath(t)
				writeFile(t, copied, readFile(t, path), 0o600)
				if err := Check(t.Context(), copied); err != nil {
					t.Fatal(err)
				}
				if err := checkByBbolt(copied); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// What the check is there for, each said in its sentence.
func TestCheckSaysWhatIsDamaged(t *testing.T) {
	content, kinds := sound(t)
	size := os.Getpagesize()
	put16, put32, put64 := binary.NativeEndian.PutUint16, binary.NativeEndian.PutUint32, binary.NativeEndian.PutUint64
	branch, list := slices.Index(kinds, "branch"), slices.Index(kinds, "freelist")
	at := func(b []byte, id int) page { return page(b[id*size:][:size]) }
	element := func(b []byte, id, i int) []byte { return at(b, id)[headerLen+i*elementLen:] }
	child := func(i int) int { return int(binary.NativeEndian.Uint64(element(content, branch, i)[8:])) }
	key := func(b []byte, id, i int) []byte { // of a leaf
		e := element(b, id, i)
		return e[binary.NativeEndian.Uint32(e[4:]):][:binary.NativeEndian.Uint32(e[8:])]
	}
	leaf := child(1) // one between others
	last := at(content, leaf).count() - 1
	for _, tt := range []struct {
		damage string
		do     func(b []byte)
		want   string
	}{
		{"a subtree in two places", func(b []byte) { put64(element(b, branch, 1)[8:], uint64(child(0))) }, fmt.Sprintf("page %d", child(0))}, // is used twice, and in one place its keys are not in order
		{"a subtree beyond the end", func(b []byte) { put64(element(b, branch, 1)[8:], uint64(len(kinds))) }, fmt.Sprintf("page %d is beyond the end", len(kinds))},
		{"a subtree that is a meta", func(b []byte) { put64(element(b, branch, 1)[8:], 0) }, "page 0 is used twice"},
		{"a free page that is not listed", func(b []byte) { put16(at(b, list)[10:], uint16(at(b, list).count()-1)) }, "is neither in use nor free"},
		{"a page in use that is listed", func(b []byte) { put64(at(b, list)[headerLen:], uint64(leaf)) }, fmt.Sprintf("page %d is used twice", leaf)},
		{"a page beyond the end that is listed", func(b []byte) { put64(at(b, list)[headerLen:], uint64(len(kinds))) }, fmt.Sprintf("in the list of free pages: page %d is beyond the end", len(kinds))},
		{"a list longer than its page", func(b []byte) { put16(at(b, list)[10:], longList-1) }, "for which it has no room"},
		{"a long list longer than its page", func(b []byte) { put16(at(b, list)[10:], longList); put64(at(b, list)[headerLen:], 1<<62) }, "for which it has no room"},
		{"a list that is a leaf", func(b []byte) { put16(at(b, list)[8:], leafPage) }, fmt.Sprintf("page %d is not the list of free pages", list)},
		{"a page that is another one", func(b []byte) { put64(at(b, leaf), 7) }, fmt.Sprintf("page %d says that it is page 7", leaf)},
		{"a page of two kinds", func(b []byte) { put16(at(b, leaf)[8:], branchPage|leafPage) }, fmt.Sprintf("page %d: it is of kind 0x3", leaf)},
		{"a branch without subtrees", func(b []byte) { put16(at(b, branch)[10:], 0) }, fmt.Sprintf("page %d: it leads nowhere", branch)},
		{"a page that does not end", func(b []byte) { put32(at(b, leaf)[12:], 1<<31) }, fmt.Sprintf("page %d reaches beyond the end", leaf)},
		{"more rows than a page has room for", func(b []byte) { put16(at(b, leaf)[10:], 0xffff) }, fmt.Sprintf("page %d: it points to what is not its own", leaf)},
		{"a key within the elements", func(b []byte) { put32(element(b, leaf, 0)[4:], 0) }, fmt.Sprintf("page %d: it points to what is not its own", leaf)},
		{"a value beyond its page", func(b []byte) { put32(element(b, leaf, last)[12:], uint32(size)) }, fmt.Sprintf("page %d: it points to what is not its own", leaf)},
		{"a branch's key beyond its page", func(b []byte) { put32(element(b, branch, 0), uint32(size)) }, fmt.Sprintf("page %d: it points to what is not its own", branch)},
		{"a bucket within a bucket", func(b []byte) { put32(element(b, leaf, 0), bucketElement) }, fmt.Sprintf("page %d: there is a row of kind 0x1", leaf)},
		{"a key twice", func(b []byte) { copy(key(b, leaf, 1), key(b, leaf, 0)) }, fmt.Sprintf("page %d: its keys are not in order", leaf)},
		{"a key before its page's", func(b []byte) { key(b, leaf, 0)[0]-- }, fmt.Sprintf("page %d: its keys are not in order", leaf)},
		{"a key of the page behind", func(b []byte) { copy(key(b, leaf, last), key(b, child(2), 0)) }, fmt.Sprintf("page %d: its keys are not in order", leaf)},
		{"a branch's key behind the next one", func(b []byte) {
			e := element(b, branch, 1)
			e[binary.NativeEndian.Uint32(e)]++
		}, fmt.Sprintf("page %d: its keys are not in order", branch)},
	} {
		b := bytes.Clone(content)
		tt.do(b)
		if err := harmless(t, b); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Check with %s = %v, want it to say %q", tt.damage, err, tt.want)
		}
	}
}

// What the disk fails to read is an error, not the end of the process.
func TestCheckOfWhatCannotBeRead(t *testing.T) {
	content, _ := sound(t)
	path := newPath(t)
	writeFile(t, path, content, 0o600)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file, err := syscall.Mmap(int(f.Fd()), 0, len(content), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(file)
	if err := walkPages(t.Context(), file, os.Getpagesize()); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(3 * os.Getpagesize())); err != nil { // Pages behind it are faults now.
		t.Fatal(err)
	}
	if err := walkPages(t.Context(), file, os.Getpagesize()); err == nil || !strings.Contains(err.Error(), "reading it failed") {
		t.Errorf("walkPages = %v, want it to say that reading failed", err)
	}
}

// No bytes make the walk fail but by an error, or go on for ever.
func FuzzWalkPages(f *testing.F) {
	content, kinds := sound(f)
	size := os.Getpagesize()
	for id, kind := range kinds {
		if kind != "free" && kind != "overflow" && kind != "meta" {
			f.Add(id*size+8, []byte{0x11, 0xff, 0xff})
			f.Add(id*size+headerLen+4, []byte{0xff, 0xff, 0xff, 0xff})
			f.Add(id*size+headerLen+8, []byte{byte(id)})
		}
	}
	f.Fuzz(func(t *testing.T, at int, put []byte) {
		b := bytes.Clone(content)
		at = max(at%len(b), 0)
		copy(b[at:], put)
		if err := walkPages(t.Context(), b, size); err != nil && strings.Contains(err.Error(), "reading it failed") {
			t.Error(err)
		}
	})
}
