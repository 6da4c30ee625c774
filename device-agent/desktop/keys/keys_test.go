package keys

import (
	"crypto/ecdsa"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/countersignd/countersign/device-agent/keystore"
	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
)

// working fails the test unless the keys sign statements and TLS as those of a device do,
// and open what was sealed.
func working(t *testing.T, keys *keystore.Keys, sealed []byte) {
	t.Helper()
	device, err := pin.KeyID(keys.Identity.Public())
	if err != nil {
		t.Error(err)
		return
	}
	jwk, err := statement.NewJWK(keys.Approval.Public().(*ecdsa.PublicKey))
	if err != nil {
		t.Error(err)
		return
	}
	want := statement.Enrollment{
		Account: "ada", ApprovalKey: jwk, Aud: "mzxw6ytboi2dmnrxgq3tmobzga", Device: device, Iat: time.Now().Unix(),
		KeyStorage: keys.Storage, Kind: "desktop", Name: "Ada's desktop", ServerKey: device,
	}
	signed, err := statement.Sign(keys.Approval, want)
	if err != nil {
		t.Errorf("Sign = %v, want a statement", err)
		return
	}
	got, public, err := statement.VerifyEnrollment(device, signed)
	if err != nil || got != want || !public.Equal(keys.Approval.Public()) {
		t.Errorf("VerifyEnrollment = %v, %v, %v, want %v", got, public, err, want)
	}
	if _, err := pin.Certificate(keys.Identity, "countersign device"); err != nil {
		t.Errorf("Certificate = %v, want one", err)
	}
	if got, err := keys.Unseal("test", sealed); err != nil || string(got) != "secret" {
		t.Errorf("Unseal = %q, %v, want what was sealed", got, err)
	}
}

// A box is a vault that can be used or not.
type box struct {
	Vault
	err error
}

func (b box) Check() error { return b.err }

// TestBest: the first that works is taken, and of those before it is said why not.
func TestBest(t *testing.T) {
	broken, cracked := box{Keyring{}, errors.New("broken")}, box{NewTPM(), errors.New("cracked")}
	why := func(b box) Unusable { return Unusable{b.Storage(), b.err} }
	good, other := box{Vault: Keyring{}}, box{Vault: NewTPM()}
	for _, test := range []struct {
		vaults []Vault
		want   Vault
		whyNot []Unusable
	}{
		{nil, nil, nil},
		{[]Vault{good, other}, good, nil},
		{[]Vault{broken, good}, good, []Unusable{why(broken)}},
		{[]Vault{good, broken}, good, nil},
		{[]Vault{broken, cracked}, nil, []Unusable{why(broken), why(cracked)}},
	} {
		if got, whyNot := Best(test.vaults); got != test.want || !slices.Equal(whyNot, test.whyNot) {
			t.Errorf("Best(%v) = %v, %v, want %v, %v", test.vaults, got, whyNot, test.want, test.whyNot)
		}
	}
}
