package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
)

// This file reads pages as bbolt lays them out.
//
// A file is a row of pages of one size. Pages 0 and 1 are metas, of which the
// sound one with the higher transaction counts. It names the root of a B+tree
// whose rows are the buckets, each with a tree of its own, and the list of the
// pages that nothing uses. A page begins with a header, which is followed by as
// many elements as it counts, and these by the keys and values they point to.
// Numbers are in the byte order of the machine.

// What a page's header says, byte by byte: its number (8), its kind (2), how many
// elements it has (2), and how many pages behind it are part of it, its overflow (4).
const headerLen = 16

// The kinds of pages.
const (
	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10
)

// What a meta tells: a number that marks it (4), the version of the layout (4), the
// size of a page (4), flags (4), the root (8) and a number that nobody uses (8),
// the page of the list of free pages (8), the first number that no page has (8),
// its transaction (8), and the FNV-1a sum of all that (8).
const (
	metaLen = 64
	metaSum = metaLen - 8
)

// An element of a branch is the place of its key, counted from the element (4),
// the key's length (4) and the page of the subtree that begins with it (8). One of
// a leaf is its kind (4), the place of its key (4), and the lengths of the key
// and of the value behind it (4 and 4).
const elementLen = 16

// bucketElement is the kind of a leaf's element whose value is a bucket: the page
// of its root (8) and a number that nobody uses (8). When the root is 0, the only
// leaf of the bucket follows.
const (
	bucketElement = 0x01
	bucketLen     = 16
)

// longList is the count of a list of free pages that begins with its true count.
const longList = 0xffff

// a page is one with its overflow.
type page []byte

func (p page) id() uint64       { return binary.NativeEndian.Uint64(p) }
func (p page) kind() uint16     { return binary.NativeEndian.Uint16(p[8:]) }
func (p page) count() int       { return int(binary.NativeEndian.Uint16(p[10:])) }
func (p page) overflow() uint64 { return uint64(binary.NativeEndian.Uint32(p[12:])) }

// a meta is what a meta page tells.
type meta struct {
	root     uint64 // the page of the root of the tree of buckets
	freelist uint64 // the first page of the list of free pages
	end      uint64 // the first number that no page has
	txid     uint64 // of the transaction that wrote it
}

// meta returns what the page tells as a meta, if its sum is right. It may not be
// if a crash interrupted its writing.
func (p page) meta() (m meta, ok bool) {
	told := p[headerLen:][:metaLen]
	sum := fnv.New64a()
	sum.Write(told[:metaSum])
	return meta{
		root:     binary.NativeEndian.Uint64(told[16:]),
		freelist: binary.NativeEndian.Uint64(told[32:]),
		end:      binary.NativeEndian.Uint64(told[40:]),
		txid:     binary.NativeEndian.Uint64(told[48:]),
	}, sum.Sum64() == binary.NativeEndian.Uint64(told[metaSum:])
}

// a span is where keys may be: from low on, and before high unless that is nil.
type span struct{ low, high []byte }

// a visit looks at a row of a tree.
type visit func(kind uint32, key, value []byte) error

var (
	errBounds = errors.New("it points to what is not its own")
	errOrder  = errors.New("its keys are not in order")
)

// a subtree is what an element of a branch leads to.
type subtree struct {
	root uint64
	keys span
}

// branch returns what a branch leads to.
func (p page) branch(keys span) ([]subtree, error) {
	below := make([]subtree, p.count())
	if len(below) == 0 {
		return nil, errors.New("it leads nowhere")
	}
	for i := range below {
		e, err := p.element(i)
		if err != nil {
			return nil, err
		}
		pos, length := binary.NativeEndian.Uint32(e), binary.NativeEndian.Uint32(e[4:])
		low, err := p.behind(i, pos, uint64(length))
		if err != nil {
			return nil, err
		}
		if i > 0 {
			below[i-1].keys.high = low
		}
		below[i] = subtree{binary.NativeEndian.Uint64(e[8:]), span{low, keys.high}}
	}
	if bytes.Compare(below[0].keys.low, keys.low) < 0 {
		return nil, errOrder
	}
	for _, sub := range below {
		if sub.keys.high != nil && bytes.Compare(sub.keys.low, sub.keys.high) >= 0 {
			return nil, errOrder
		}
	}
	return below, nil
}

// leaf has row look at each row of a leaf.
func (p page) leaf(keys span, row visit) error {
	last := keys.low
	for i := range p.count() {
		e, err := p.element(i)
		if err != nil {
			return err
		}
		kind, pos := binary.NativeEndian.Uint32(e), binary.NativeEndian.Uint32(e[4:])
		keyLen, valueLen := uint64(binary.NativeEndian.Uint32(e[8:])), uint64(binary.NativeEndian.Uint32(e[12:]))
		both, err := p.behind(i, pos, keyLen+valueLen)
		if err != nil {
			return err
		}
		key := both[:keyLen]
		// The first key may be the one that the branch above has for this page.
		if order := bytes.Compare(last, key); order > 0 || order == 0 && i > 0 {
			return errOrder
		}
		if err := row(kind, key, both[keyLen:]); err != nil {
			return err
		}
		last = key
	}
	if keys.high != nil && p.count() > 0 && bytes.Compare(last, keys.high) >= 0 {
		return errOrder
	}
	return nil
}

// element returns element i.
func (p page) element(i int) ([]byte, error) {
	at := headerLen + i*elementLen
	if at+elementLen > len(p) {
		return nil, errBounds
	}
	return p[at:][:elementLen], nil
}

// behind returns n bytes that begin pos bytes behind the beginning of element i.
func (p page) behind(i int, pos uint32, n uint64) ([]byte, error) {
	at := uint64(headerLen+i*elementLen) + uint64(pos)
	if at < uint64(headerLen+p.count()*elementLen) || at+n > uint64(len(p)) {
		return nil, errBounds
	}
	return p[at:][:n], nil
}
