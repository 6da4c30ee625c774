package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
)

// This file walks through the pages of a file as bbolt lays them out, once, on
// all processors. bbolt's own check takes three walks and a map of all pages, on
// one processor, and follows what it reads wherever it leads. What is here
// believes nothing: each number is held against the bounds of what it points to.
//
// A file is a row of pages of one size. Pages 0 and 1 are metas, of which the
// sound one with the higher transaction counts. It names the root of a B+tree
// whose rows are the buckets, each with a tree of its own, and the list of the
// pages that nothing uses. A page begins with a header, which is followed by as
// many elements as it counts, and these by the keys and values they point to.
// Numbers are in the byte order of the machine.

// What a page's header says, byte by byte: its number (8), its kind (2), how many
// elements it has (2), and how many pages behind it are part of it (4).
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

const (
	longList = 0xffff // is the count of a list that begins with its true count
	// maxDepth is more than any tree has: with but two keys in each branch it
	// would have more leaves than there are numbers for pages.
	maxDepth = 64
	// sharedDepth is how deep a subtree lies at most that is worth a goroutine.
	sharedDepth = 2
	// smallestPage of a file is what a system reads of it at least.
	smallestPage = 4096
)

// a walk looks at each page of a file.
type walk struct {
	file     []byte
	pageSize uint64
	end      uint64          // the first number that no page has
	found    []atomic.Uint64 // one bit for each page that is known to be in use, or free
	read     atomic.Uint32   // of no meaning: see page

	ctx     context.Context // done when there is no need to go on
	cancel  context.CancelCauseFunc
	helpers chan struct{} // holds one for each goroutine beside the first
	helping sync.WaitGroup
}

// withFile has look read the file at path, whose bytes are mapped and must not be
// read when it has returned; what it finds is damage. Nobody may be writing to the
// file. An error is a sentence for the administrator.
func withFile(path string, look func(file []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, errors.Unwrap(err))
	}
	defer f.Close() // It was only read.
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, errors.Unwrap(err))
	}
	file, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("opening %s: mapping it: %w", path, err)
	}
	defer syscall.Munmap(file)
	if err := look(file); err != nil {
		return damaged(path, err)
	}
	return nil
}

// walkPages makes sure that each page of a file is in use once, or free; that keys
// are in order; and that all rows are such as [Store] writes. It has each page
// read from the disk. The pages have pageSize bytes. An error says what is
// damaged, or is that of ctx.
func walkPages(ctx context.Context, file []byte, pageSize int) error {
	w := newWalk(ctx, file, pageSize)
	defer w.cancel(nil)
	w.try(w.allTrees)
	w.helping.Wait()
	w.try(w.allAccountedFor)
	return context.Cause(w.ctx)
}

// walkList looks at no more of a file than bbolt reads when it opens it for
// writing: its metas, and the list of its free pages.
func walkList(file []byte, pageSize int) error {
	w := newWalk(context.Background(), file, pageSize)
	defer w.cancel(nil)
	w.try(func() error {
		_, err := w.beginning()
		return err
	})
	return context.Cause(w.ctx)
}

// newWalk returns a walk that has not begun, whose cancel must be called.
func newWalk(ctx context.Context, file []byte, pageSize int) *walk {
	w := &walk{file: file, pageSize: uint64(pageSize), helpers: make(chan struct{}, runtime.GOMAXPROCS(0)-1)}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	return w
}

// try does a part of the walk, and ends the walk if that finds damage. What the
// disk fails to read is damage, too.
func (w *walk) try(part func() error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch p := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // a fault, see SetPanicOnFault
			w.cancel(fmt.Errorf("reading it failed: %v", p))
		default:
			panic(p)
		}
	}()
	if err := part(); err != nil {
		w.cancel(err)
	}
}

// share does a part of the walk beside the others if a processor is idle, and
// else at once.
func (w *walk) share(part func() error) error {
	select {
	case w.helpers <- struct{}{}:
		w.helping.Go(func() {
			w.try(part)
			<-w.helpers
		})
		return nil
	default:
		return part()
	}
}

// beginning looks at the metas and at the list of free pages, and returns the
// root of the tree of buckets.
func (w *walk) beginning() (root uint64, err error) {
	m, err := w.newestMeta()
	if err != nil {
		return 0, err
	}
	w.end = m.end
	w.found = make([]atomic.Uint64, (w.end+63)/64)
	for id := range uint64(2) {
		if p, err := w.page(id); err != nil {
			return 0, err
		} else if p.kind() != metaPage {
			return 0, fmt.Errorf("page %d is of kind %#x", id, p.kind())
		}
	}
	return m.root, w.freelist(m.freelist)
}

// allTrees walks through all trees.
func (w *walk) allTrees() error {
	root, err := w.beginning()
	if err != nil {
		return err
	}
	return w.tree(root, 0, span{}, w.bucket)
}

// allAccountedFor makes sure that no page is lost, neither in use nor free.
func (w *walk) allAccountedFor() error {
	for i := range w.found {
		if id := uint64(i)*64 + uint64(bits.TrailingZeros64(^w.found[i].Load())); id < min(uint64(i+1)*64, w.end) {
			return fmt.Errorf("page %d is neither in use nor free", id)
		}
	}
	return nil
}

// a meta is what a meta page tells.
type meta struct {
	root     uint64 // the page of the root of the tree of buckets
	freelist uint64 // the first page of the list of free pages
	end      uint64 // the first number that no page has
	txid     uint64 // of the transaction that wrote it
}

// newestMeta returns the meta that counts.
func (w *walk) newestMeta() (meta, error) {
	var newest meta
	if w.pageSize < headerLen+metaLen || uint64(len(w.file)) < 2*w.pageSize {
		return newest, errors.New("it has no room for two pages")
	}
	for id := range uint64(2) {
		told := w.file[id*w.pageSize+headerLen:][:metaLen]
		sum := fnv.New64a()
		sum.Write(told[:metaSum])
		if sum.Sum64() != binary.NativeEndian.Uint64(told[metaSum:]) {
			continue // A crash interrupted its writing.
		}
		if txid := binary.NativeEndian.Uint64(told[48:]); txid >= newest.txid {
			newest = meta{
				root:     binary.NativeEndian.Uint64(told[16:]),
				freelist: binary.NativeEndian.Uint64(told[32:]),
				end:      binary.NativeEndian.Uint64(told[40:]),
				txid:     txid,
			}
		}
	}
	if newest.end < 2 || newest.end > uint64(len(w.file))/w.pageSize {
		return meta{}, errors.New("neither of its first two pages is sound")
	}
	return newest, nil
}

// find notes that a page is in use, or free.
func (w *walk) find(id uint64) error {
	if id >= w.end {
		return fmt.Errorf("page %d is beyond the end", id)
	}
	if bit := uint64(1) << (id % 64); w.found[id/64].Or(bit)&bit != 0 {
		return fmt.Errorf("page %d is used twice", id)
	}
	return nil
}

// a page is one with those that belong to it.
type page []byte

func (p page) kind() uint16      { return binary.NativeEndian.Uint16(p[8:]) }
func (p page) count() int        { return int(binary.NativeEndian.Uint16(p[10:])) }
func (p page) following() uint64 { return uint64(binary.NativeEndian.Uint32(p[12:])) }

// page finds and reads the page with this number.
func (w *walk) page(id uint64) (page, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	if err := w.find(id); err != nil {
		return nil, err
	}
	p := page(w.file[id*w.pageSize:][:w.pageSize])
	if got := binary.NativeEndian.Uint64(p); got != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	last := id + p.following()
	if last >= w.end {
		return nil, fmt.Errorf("page %d reaches beyond the end", id)
	}
	for other := id + 1; other <= last; other++ {
		if err := w.find(other); err != nil {
			return nil, err
		}
	}
	p = page(w.file[id*w.pageSize : (last+1)*w.pageSize])
	var read byte
	for at := 0; at < len(p); at += smallestPage {
		read |= p[at]
	}
	w.read.Store(uint32(read)) // so that it is read
	return p, nil
}

// freelist finds the pages that the list names.
func (w *walk) freelist(id uint64) error {
	p, err := w.page(id)
	if err != nil {
		return err
	}
	if p.kind() != freelistPage {
		return fmt.Errorf("page %d is not the list of free pages", id)
	}
	list, n := p[headerLen:], uint64(p.count())
	if n == longList {
		n, list = binary.NativeEndian.Uint64(list), list[8:]
	}
	if n > uint64(len(list))/8 {
		return fmt.Errorf("page %d lists %d free pages, for which it has no room", id, n)
	}
	for i := range n {
		if err := w.find(binary.NativeEndian.Uint64(list[i*8:])); err != nil {
			return fmt.Errorf("in the list of free pages: %w", err)
		}
	}
	return nil
}

// a span is where keys may be: from low on, and before high unless that is nil.
type span struct{ low, high []byte }

// a visit looks at a row of a tree.
type visit func(kind uint32, key, value []byte) error

// tree walks through the tree whose root is the page with this number, or
// through a subtree that lies so many pages below that.
func (w *walk) tree(id uint64, depth int, keys span, row visit) error {
	p, err := w.page(id)
	if err != nil {
		return err
	}
	var below []subtree
	switch kind := p.kind(); {
	case depth > maxDepth:
		err = errors.New("no tree is as deep as that")
	case kind == leafPage:
		err = p.leaf(keys, row)
	case kind == branchPage:
		below, err = p.branch(keys)
	default:
		err = fmt.Errorf("it is of kind %#x", kind)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	for _, sub := range below {
		part := func() error { return w.tree(sub.root, depth+1, sub.keys, row) }
		if depth < sharedDepth {
			err = w.share(part)
		} else {
			err = part()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket is the visit of the tree of buckets.
func (w *walk) bucket(kind uint32, name, value []byte) error {
	if kind != bucketElement || len(name) == 0 || len(name) > MaxKey || len(value) < bucketLen {
		return fmt.Errorf("%.40q is not a bucket", name)
	}
	var err error
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		err = w.tree(root, 0, span{}, row)
	} else if p := page(value[bucketLen:]); len(p) < headerLen || p.kind() != leafPage {
		err = errors.New("it has no rows")
	} else {
		err = p.leaf(span{}, row)
	}
	if err != nil {
		return fmt.Errorf("bucket %.40q: %w", name, err)
	}
	return nil
}

// row is the visit of the tree of a bucket.
func row(kind uint32, key, value []byte) error {
	if kind != 0 || len(key) == 0 || len(key) > MaxKey || len(value) == 0 || len(value) > MaxValue {
		return fmt.Errorf("there is a row of kind %#x that has a key of %d bytes and a value of %d", kind, len(key), len(value))
	}
	return nil
}

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
