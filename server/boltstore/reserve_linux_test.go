package boltstore

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/countersignd/countersign/server/approval"
)

// What is reserved lies in the file, behind what the store holds, and is used
// up before the file grows again.
func TestReserve(t *testing.T) {
	path := newPath(t)
	s := open(t, path, Options{})
	const reserve = 1 << 20
	size := func() (length, allocated int64) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size(), info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	for range 2 { // the second time changes nothing
		if err := s.Reserve(reserve); err != nil {
			t.Fatal(err)
		}
	}
	before, allocated := size()
	if allocated < reserve {
		t.Fatalf("%d bytes of the file are allocated, want at least %d", allocated, reserve)
	}
	put := func(key string, n int) {
		err := s.Update(t.Context(), func(tx approval.Tx) error { return tx.Put("b", key, make([]byte, n)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	put("k", reserve/4)
	if after, _ := size(); after != before {
		t.Errorf("the file went from %d to %d bytes though there was room in it", before, after)
	}
	put("l", reserve/2)
	if err := s.Reserve(reserve); err != nil {
		t.Fatal(err)
	}
	if after, _ := size(); after <= before {
		t.Errorf("the file has %d bytes, want more than %d after half was used up", after, before)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), path); err != nil {
		t.Errorf("Check of a file with a reserve = %v", err)
	}
	if err := s.Reserve(reserve); !errors.Is(err, approval.ErrStoreFailed) {
		t.Errorf("Reserve of a closed store = %v, want ErrStoreFailed", err)
	}
}
