package keys

import (
	"errors"

	"github.com/google/go-tpm/tpm2/transport"
)

// openTPM returns an error: Macs have a Secure Enclave instead, which is not used yet.
func openTPM() (transport.TPMCloser, error) { return nil, errors.New("no Mac has one") }
