package approval

import "time"

// now is the moment of an operation, which reads it once.
func (b *Broker) now() time.Time { return time.Now() }
