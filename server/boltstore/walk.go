package boltstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
)

// This file walks through the pages of a file, once, on all processors. bbolt's own
// check takes three walks and a map of all pages, on one processor, and follows what
// it reads wherever it leads. What is here believes nothing: each number is held
// against the bounds of what it points to. See page.go for how the pages are laid out.

// sharedDepth is how deep a subtree lies at most that is worth a goroutine, and
// maxDepth more than any tree has: with but two keys in each branch it would have
// more leaves than there are numbers for pages.
const (
	sharedDepth = 2
	maxDepth    = 64
)

// smallestPage of a file is what a system reads of it at least.
const smallestPage = 4096

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

// newestMeta returns the meta that counts.
func (w *walk) newestMeta() (meta, error) {
	var newest meta
	if w.pageSize < headerLen+metaLen || uint64(len(w.file)) < 2*w.pageSize {
		return newest, errors.New("it has no room for two pages")
	}
	for id := range uint64(2) {
		if m, ok := page(w.file[id*w.pageSize:][:w.pageSize]).meta(); ok && m.txid >= newest.txid {
			newest = m
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

// page finds and reads the page with this number.
func (w *walk) page(id uint64) (page, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	if err := w.find(id); err != nil {
		return nil, err
	}
	p := page(w.file[id*w.pageSize:][:w.pageSize])
	if p.id() != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, p.id())
	}
	last := id + p.overflow()
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
