package audit

import (
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// A grove is a tree with all its hashes, as package tlog keeps one.
type grove struct {
	hashes []tlog.Hash
	size   uint64
}

func (g *grove) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var all []tlog.Hash
	for _, i := range indexes {
		all = append(all, g.hashes[i])
	}
	return all, nil
}

func (g *grove) add(t tlogTB, leaf tlog.Hash) {
	more, err := tlog.StoredHashesForRecordHash(int64(g.size), leaf, g)
	if err != nil {
		t.Fatal(err)
	}
	g.hashes = append(g.hashes, more...)
	g.size++
}

func (g *grove) head(t tlogTB, size uint64) Head {
	root, err := tlog.TreeHash(int64(size), g)
	if err != nil {
		t.Fatal(err)
	}
	return Head{Deployment: deployment, Key: "key", Size: size, Root: root}
}

func (g *grove) proof(t tlogTB, old, size uint64) [][]byte {
	hashes, err := tlog.ProveTree(int64(size), int64(old), g)
	if err != nil {
		t.Fatal(err)
	}
	var proof [][]byte
	for _, h := range hashes {
		proof = append(proof, h[:])
	}
	return proof
}

type tlogTB interface{ Fatal(args ...any) }

// TestTreeIsTheTreeOfRFC6962 holds the right edge against package tlog, at each size.
func TestTreeIsTheTreeOfRFC6962(t *testing.T) {
	var tree Tree
	var g grove
	for i := range 300 {
		leaf := Hash([]byte{byte(i), byte(i >> 8)})
		tree.Add(leaf)
		g.add(t, leaf)
		if want := g.head(t, g.size); tree.Size() != want.Size || tree.Root() != want.Root {
			t.Fatalf("%d leaves: root %v, want %v", tree.Size(), tree.Root(), want.Root)
		}
	}
}

// TestA14ProofsHoldForWhatGrewAndForNothingElse: a proof is accepted between two
// sizes of one record, and no proof at all between two records that differ in
// what both should have.
func TestA14ProofsHoldForWhatGrewAndForNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Uint64Range(1, 200).Draw(t, "size")
		old := rapid.Uint64Range(1, size).Draw(t, "old")
		changed := rapid.Uint64Range(0, old-1).Draw(t, "changed")
		var honest, forged grove
		for i := range size {
			leaf := Hash([]byte{byte(i)})
			honest.add(t, leaf)
			if i == changed {
				leaf = Hash([]byte("another"))
			}
			forged.add(t, leaf)
		}
		was, is := honest.head(t, old), honest.head(t, size)
		proof := honest.proof(t, old, size)
		if err := is.Continues(was, proof); err != nil {
			t.Fatalf("Continues(%d → %d) = %v, want nil", old, size, err)
		}
		for name, p := range map[string][][]byte{"its own": forged.proof(t, old, size), "the honest one": proof, "none": nil} {
			if err := forged.head(t, size).Continues(was, p); !errors.Is(err, ErrNotContinued) {
				t.Fatalf("record %d changed: Continues(%d → %d) with %s = %v, want ErrNotContinued", changed+1, old, size, name, err)
			}
		}
		if size > old {
			if err := was.Continues(is, proof); !errors.Is(err, ErrNotContinued) {
				t.Fatalf("cut off: Continues(%d → %d) = %v, want ErrNotContinued", size, old, err)
			}
		}
		if len(proof) > 0 {
			i := rapid.IntRange(0, len(proof)-1).Draw(t, "hash")
			proof[i][rapid.IntRange(0, 31).Draw(t, "byte")] ^= 1
			if err := is.Continues(was, proof); !errors.Is(err, ErrNotContinued) {
				t.Fatalf("Continues with a bit of the proof changed = %v, want ErrNotContinued", err)
			}
		}
	})
}

func TestHeadsOfOneSizeMustBeEqual(t *testing.T) {
	var g grove
	for i := range 9 {
		g.add(t, Hash([]byte{byte(i)}))
	}
	was := g.head(t, 7)
	for name, change := range map[string]func(*Head){
		"another root":       func(h *Head) { h.Root[0] ^= 1 },
		"another key":        func(h *Head) { h.Key = "another" },
		"another deployment": func(h *Head) { h.Deployment = "another" },
	} {
		is := was
		change(&is)
		if err := is.Continues(was, nil); !errors.Is(err, ErrNotContinued) {
			t.Errorf("%s: Continues = %v, want ErrNotContinued", name, err)
		}
	}
	if err := was.Continues(was, nil); err != nil {
		t.Errorf("Continues(itself) = %v, want nil", err)
	}
	later := g.head(t, 9)
	for name, proof := range map[string][][]byte{"short hash": {make([]byte, 31)}, "endless": make([][]byte, MaxProof+1)} {
		if err := later.Continues(was, proof); !errors.Is(err, ErrNotContinued) {
			t.Errorf("%s: Continues = %v, want ErrNotContinued", name, err)
		}
	}
}
