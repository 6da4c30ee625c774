package boltstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/countersignd/countersign/server/approval"
)

// A disk is not equally fast from one minute to the next, so BenchmarkUpdate and
// BenchmarkBareBolt can be compared only when short runs of both take turns.
//
// The benchmarks count updates: each reads one key, and puts two of 200 bytes
// into two buckets, as an answer and its audit record would be.
var benchValue = make([]byte, 200)

func benchKey(n int64) string { return fmt.Sprintf("%016x", n) }

func BenchmarkUpdate(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := open(b, newPath(b), Options{})
			commits := countCommits(s)
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for {
						n := next.Add(1)
						if n > int64(b.N) {
							return
						}
						key := benchKey(n)
						err := s.Update(context.Background(), func(tx approval.Tx) error {
							if _, err := tx.Get("a", key); err != nil {
								return err
							}
							if err := tx.Put("a", key, benchValue); err != nil {
								return err
							}
							return tx.Put("b", key, benchValue)
						})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/float64(commits.Load()), "updates/commit")
		})
	}
}

// BenchmarkBareBolt is what bbolt can do at best: one writer that knows all the
// updates of a group beforehand.
func BenchmarkBareBolt(b *testing.B) {
	for _, group := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", group), func(b *testing.B) {
			s := open(b, newPath(b), Options{}) // for the same options
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += group {
				err := s.db.Update(func(tx *bolt.Tx) error {
					first, err := tx.CreateBucketIfNotExists([]byte("a"))
					if err != nil {
						return err
					}
					second, err := tx.CreateBucketIfNotExists([]byte("b"))
					if err != nil {
						return err
					}
					for i := n; i < min(n+group, b.N); i++ {
						key := []byte(benchKey(int64(i)))
						first.Get(key)
						if err := first.Put(key, benchValue); err != nil {
							return err
						}
						if err := second.Put(key, benchValue); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkView(b *testing.B) {
	s := open(b, newPath(b), Options{})
	if _, err := countUp(s, "b"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		err := s.View(b.Context(), func(tx approval.Tx) error { _, err := tx.Get("b", "last"); return err })
		if err != nil {
			b.Fatal(err)
		}
	}
}
