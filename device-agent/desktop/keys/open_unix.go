//go:build unix && !darwin

package keys

import (
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
)

// openTPM opens the TPM through the kernel's resource manager, which keeps programs
// apart.
func openTPM() (transport.TPMCloser, error) { return linuxtpm.Open("/dev/tpmrm0") }
