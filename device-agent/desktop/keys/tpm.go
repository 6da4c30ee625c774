package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/countersignd/countersign/device-agent/keystore"
)

// A TPM is that of this machine (TPM 2.0). Nothing stays in it between two calls, so
// it needs no room there, and other programs, suspending and restarting do no harm: each
// call makes the storage root key again, which is the same until the TPM is cleared, and
// loads below it what the file holds.
type TPM struct {
	Open func() (transport.TPMCloser, error) // opens the TPM, for each call

	mu sync.Mutex // one call at a time
}

// NewTPM returns this machine's TPM, if it has one or not.
func NewTPM() *TPM { return &TPM{Open: openTPM} }

// Storage implements [keystore.Vault].
func (t *TPM) Storage() string { return keystore.InTPM }

// Check implements [Vault].
func (t *TPM) Check() error { return t.use(func(transport.TPM, root) error { return nil }) }

// signing is a P-256 key that the TPM made, that signs SHA-256 digests, and that never
// leaves it. It has no password of its own, so guessing ones cannot lock the TPM.
var signing = tpm2.TPMTPublic{
	Type:    tpm2.TPMAlgECC,
	NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true,
	},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Scheme: tpm2.TPMTECCScheme{
			Scheme:  tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
		},
		CurveID: tpm2.TPMECCNistP256,
	}),
}

// sealing is a secret that was given to the TPM, and which only it gives back.
var sealing = tpm2.TPMTPublic{
	Type:             tpm2.TPMAlgKeyedHash,
	NameAlg:          tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true, NoDA: true},
}

// Make implements [keystore.Vault].
func (t *TPM) Make() ([]byte, error) {
	var f tpmFile
	err := t.use(func(tpm transport.TPM, r root) (err error) {
		f.Root = r.name.Buffer
		if f.Identity, err = r.create(tpm, signing, nil); err != nil {
			return err
		}
		if f.Approval, err = r.create(tpm, signing, nil); err != nil {
			return err
		}
		secret := make([]byte, 32)
		rand.Read(secret)
		f.Sealing, err = r.create(tpm, sealing, secret)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f.encode()
}

// Keys implements [keystore.Vault].
func (t *TPM) Keys(file []byte) (keystore.Kept, error) {
	f, err := parseTPMFile(file)
	if err != nil {
		return keystore.Kept{}, err
	}
	var kept keystore.Kept
	err = t.use(func(tpm transport.TPM, r root) error {
		if !bytes.Equal(r.name.Buffer, f.Root) {
			return fmt.Errorf("this machine's TPM was cleared or replaced, or the directory was copied from another machine, so %w", keystore.ErrGone)
		}
		// All are loaded, so that a damaged file shows now.
		for _, o := range []object{f.Identity, f.Approval} {
			if err := r.load(tpm, o, func(tpm2.NamedHandle) error { return nil }); err != nil {
				return err
			}
		}
		return r.load(tpm, f.Sealing, func(h tpm2.NamedHandle) error {
			// Encrypted for who listens on the wires to the TPM.
			unsealed, err := tpm2.Unseal{ItemHandle: r.session(h, tpm2.AESEncryption(128, tpm2.EncryptOut))}.Execute(tpm)
			if err != nil {
				return explain(err)
			}
			kept.Sealing = unsealed.OutData.Buffer
			return nil
		})
	})
	if err != nil {
		return keystore.Kept{}, err
	}
	if kept.Identity, err = t.key(f.Identity); err != nil {
		return keystore.Kept{}, err
	}
	kept.Approval, err = t.key(f.Approval)
	return kept, err
}

// use opens the TPM, makes its storage root key, and calls fn with them.
func (t *TPM) use(fn func(transport.TPM, root) error) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tpm, err := t.Open()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this machine has a TPM, which you may not use: have yourself added to its group (tss on most systems) and sign in again (%w)", err)
	case err != nil:
		return fmt.Errorf("this machine has no TPM 2.0 that can be used: if it should, switch it on in the firmware's settings (%w)", err)
	}
	defer func() { err = errors.Join(err, tpm.Close()) }()
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(tpm)
	if err != nil {
		return explain(err)
	}
	defer flush(tpm, made.ObjectHandle, &err)
	public, err := made.OutPublic.Contents()
	if err != nil {
		return explain(err)
	}
	return fn(tpm, root{made.ObjectHandle, made.Name, *public})
}

// flush removes what was loaded.
func flush(tpm transport.TPM, h tpm2.TPMHandle, err *error) {
	if _, failed := (tpm2.FlushContext{FlushHandle: h}).Execute(tpm); failed != nil {
		*err = errors.Join(*err, explain(failed))
	}
}

// explain says what to do about what the TPM itself answered.
func explain(err error) error {
	switch {
	case errors.Is(err, tpm2.TPMRCBadAuth), errors.Is(err, tpm2.TPMRCAuthFail):
		return fmt.Errorf("this machine's TPM has a password of its owner's, which is not asked for here (%w)", err)
	case errors.Is(err, tpm2.TPMRCIntegrity):
		return errDamaged
	}
	return fmt.Errorf("this machine's TPM does not do what is asked of it: try again, and if that does not help, restart the machine (%w)", err)
}

// A root is the storage root key, below which all other keys are.
type root struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPMTPublic
}

// session authorises the use of h, whose password is empty, and encrypts what it gives or
// takes first for whoever listens on the wires to the TPM.
func (r root) session(h tpm2.NamedHandle, opts ...tpm2.AuthOption) tpm2.AuthHandle {
	opts = append(opts, tpm2.Salted(r.handle, r.public))
	return tpm2.AuthHandle{Handle: h.Handle, Name: h.Name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, 16, opts...)}
}

// create makes an object below the root, of a secret if that is not nil.
func (r root) create(tpm transport.TPM, template tpm2.TPMTPublic, secret []byte) (object, error) {
	create := tpm2.Create{
		ParentHandle: r.session(tpm2.NamedHandle{Handle: r.handle, Name: r.name}, tpm2.AESEncryption(128, tpm2.EncryptIn)),
		InPublic:     tpm2.New2B(template),
	}
	if secret != nil {
		create.InSensitive = tpm2.TPM2BSensitiveCreate{
			Sensitive: &tpm2.TPMSSensitiveCreate{Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret})},
		}
	}
	made, err := create.Execute(tpm)
	if err != nil {
		return object{}, explain(err)
	}
	return object{made.OutPublic.Bytes(), made.OutPrivate.Buffer}, nil
}

// load loads an object while fn runs.
func (r root) load(tpm transport.TPM, o object, fn func(tpm2.NamedHandle) error) (err error) {
	loaded, err := tpm2.Load{
		ParentHandle: tpm2.NamedHandle{Handle: r.handle, Name: r.name},
		InPrivate:    tpm2.TPM2BPrivate{Buffer: o.Private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](o.Public),
	}.Execute(tpm)
	if err != nil {
		return explain(err)
	}
	defer flush(tpm, loaded.ObjectHandle, &err)
	return fn(tpm2.NamedHandle{Handle: loaded.ObjectHandle, Name: loaded.Name})
}

// A tpmKey is a key of a file, which the TPM signs with.
type tpmKey struct {
	tpm    *TPM
	object object
	public *ecdsa.PublicKey
}

// key returns the key of an object, if it is one as Make makes them.
func (t *TPM) key(o object) (crypto.Signer, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](o.Public)
	if err != nil {
		return nil, errDamaged
	}
	template := *public
	template.Unique = signing.Unique
	if !bytes.Equal(tpm2.Marshal(template), tpm2.Marshal(signing)) {
		return nil, errDamaged
	}
	key, err := tpm2.Pub(*public)
	ec, ok := key.(*ecdsa.PublicKey)
	if err != nil || !ok {
		return nil, errDamaged
	}
	return tpmKey{t, o, ec}, nil
}

func (k tpmKey) Public() crypto.PublicKey { return k.public }

func (k tpmKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 {
		return nil, errors.New("the keys of this TPM sign SHA-256 only")
	}
	var der []byte
	err := k.tpm.use(func(tpm transport.TPM, r root) error {
		return r.load(tpm, k.object, func(h tpm2.NamedHandle) error {
			signed, err := tpm2.Sign{
				KeyHandle:  h,
				Digest:     tpm2.TPM2BDigest{Buffer: digest},
				Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
			}.Execute(tpm)
			if err != nil {
				return explain(err)
			}
			signature, err := signed.Signature.Signature.ECDSA()
			if err != nil {
				return explain(err)
			}
			der, err = asn1.Marshal(struct{ R, S *big.Int }{
				new(big.Int).SetBytes(signature.SignatureR.Buffer), new(big.Int).SetBytes(signature.SignatureS.Buffer),
			})
			return err
		})
	})
	return der, err
}

const tpmPEM = "COUNTERSIGN KEYS OF A TPM"

// A tpmFile is what a file holds: DER, in PEM.
type tpmFile struct {
	Root                        []byte // name of the storage root key that the objects are below
	Identity, Approval, Sealing object
}

// An object is what the TPM loads a key or a secret from.
type object struct {
	Public  []byte // TPMT_PUBLIC
	Private []byte // of a TPM2B_PRIVATE: encrypted by the root
}

func (f tpmFile) encode() ([]byte, error) {
	der, err := asn1.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encoding keys: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: tpmPEM, Bytes: der}), nil
}

// parseTPMFile is the inverse of encode and accepts nothing but its results.
func parseTPMFile(data []byte) (tpmFile, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return tpmFile{}, errDamaged
	}
	var f tpmFile
	if _, err := asn1.Unmarshal(block.Bytes, &f); err != nil {
		return tpmFile{}, errDamaged
	}
	if again, err := f.encode(); err != nil || !bytes.Equal(again, data) {
		return tpmFile{}, errDamaged
	}
	return f, nil
}
