package boltstore

// Reserve makes sure that the store can grow by n bytes though the disk be full,
// by having the file system set the place aside in the file itself, where nobody
// else can take it. It changes nothing that the store holds, and asks the file
// system only when half of what was set aside is used up. It does nothing where
// the file system cannot promise that.
//
// One goroutine calls it.
func (s *Store) Reserve(n int64) error {
	used, err := s.Size() // What is behind it is no page of the store.
	if err != nil {
		return err
	}
	if s.reserved-used >= n/2 {
		return nil
	}
	if err := allocate(s.path, used+n); err != nil {
		return err
	}
	s.reserved = used + n
	return nil
}
