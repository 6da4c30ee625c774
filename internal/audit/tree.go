package audit

import (
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// A Tree is the right edge of a Merkle tree that grows leaf by leaf: the roots of
// the perfect trees that it is made of, the largest first. It has one for each
// bit of the size, and its zero value is empty.
type Tree struct {
	size  uint64
	peaks []tlog.Hash
}

// Add appends a leaf.
func (t *Tree) Add(leaf tlog.Hash) {
	t.peaks = append(t.peaks, leaf)
	for range bits.TrailingZeros64(^t.size) { // two trees of one height become one
		n := len(t.peaks)
		t.peaks = append(t.peaks[:n-2], tlog.NodeHash(t.peaks[n-2], t.peaks[n-1]))
	}
	t.size++
}

// Size returns the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Root returns the root. That of an empty tree is all zero.
func (t *Tree) Root() tlog.Hash {
	if len(t.peaks) == 0 {
		return tlog.Hash{}
	}
	root := t.peaks[len(t.peaks)-1]
	for i := len(t.peaks) - 2; i >= 0; i-- {
		root = tlog.NodeHash(t.peaks[i], root)
	}
	return root
}
