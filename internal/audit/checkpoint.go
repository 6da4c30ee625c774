package audit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/countersignd/countersign/internal/pin"
	"github.com/countersignd/countersign/internal/statement"
)

// A Checkpoint is what the server has signed about its record, with the public
// key that shows it. Its JSON is one line: the last of an export, what a device
// remembers, and what the programs print.
//
// The key proves nothing by itself: whoever trusts a checkpoint knows the key
// from elsewhere, or from before.
type Checkpoint struct {
	Statement string        `json:"checkpoint"` // countersign-checkpoint+jws
	Key       statement.JWK `json:"key"`        // that signed it
}

// maxCheckpoint is more than any checkpoint has.
const maxCheckpoint = 4 << 10

// NewCheckpoint signs the root of a tree with the server's key.
func NewCheckpoint(key crypto.Signer, deployment string, size uint64, root tlog.Hash, now time.Time) (Checkpoint, error) {
	public, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return Checkpoint{}, errors.New("the signing key is no ECDSA key")
	}
	jwk, err := statement.NewJWK(public)
	if err != nil {
		return Checkpoint{}, err
	}
	jws, err := statement.Sign(key, statement.Checkpoint{Iat: now.Unix(), Iss: deployment, Root: HashString(root), Size: size})
	return Checkpoint{Statement: jws, Key: jwk}, err
}

// Line returns the checkpoint as one line of JSON, without a line feed.
func (c Checkpoint) Line() []byte {
	b, err := json.Marshal(c) // no character of it needs escaping
	if err != nil {
		panic("audit: " + err.Error())
	}
	return b
}

// ParseCheckpoint is the inverse of [Checkpoint.Line] and takes nothing but its
// results. It does not check the signature: [Checkpoint.Head] does.
func ParseCheckpoint(line []byte) (Checkpoint, error) {
	if len(line) > maxCheckpoint {
		return Checkpoint{}, errors.New("not a checkpoint: it is too long")
	}
	var c Checkpoint
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil || !bytes.Equal(c.Line(), line) {
		return Checkpoint{}, errors.New(`not a checkpoint: want one line, {"checkpoint":…,"key":…}`)
	}
	return c, nil
}

// A Head is what a checkpoint says of a record.
type Head struct {
	Deployment string    // whose record it is
	Key        string    // key id of the key that signed
	Size       uint64    // number of records, at least 1
	Root       tlog.Hash // of the tree over them
	Time       time.Time // of the signature, by the server's clock
}

// Head checks the signature by the key that came with it, and returns what was
// signed.
func (c Checkpoint) Head() (Head, error) {
	key, err := c.Key.PublicKey()
	if err != nil {
		return Head{}, err
	}
	id, err := pin.KeyID(key)
	if err != nil {
		return Head{}, err
	}
	signed, err := statement.Verify[statement.Checkpoint](key, id, c.Statement)
	if err != nil {
		return Head{}, err
	}
	h := Head{Deployment: signed.Iss, Key: id, Size: signed.Size, Time: time.Unix(signed.Iat, 0).UTC()}
	root, err := base64.RawURLEncoding.DecodeString(signed.Root)
	copy(h.Root[:], root) // 32 bytes, or Verify would have refused it
	return h, err
}

// MaxProof is the largest number of hashes in a proof that one tree continues
// another: two for each level (RFC 6962, 2.1.2).
const MaxProof = 2 * 64

// ErrNotContinued is wrapped by [Head.Continues] when the two heads cannot be
// of one record that only grew.
var ErrNotContinued = errors.New("the record was changed or set back")

// Continues checks a proof (RFC 6962, 2.1.2) that the record of h is that of old
// with nothing but new records after it. Heads of one size need no proof.
func (h Head) Continues(old Head, proof [][]byte) error {
	switch {
	case h.Deployment != old.Deployment:
		return fmt.Errorf("%w: it is another deployment's", ErrNotContinued)
	case h.Key != old.Key:
		return fmt.Errorf("%w: it is signed with another key", ErrNotContinued)
	case h.Size < old.Size:
		return fmt.Errorf("%w: it is shorter", ErrNotContinued)
	case h.Size == old.Size && h.Root != old.Root:
		return fmt.Errorf("%w: it has as many records, and they are others", ErrNotContinued)
	case h.Size == old.Size:
		return nil
	case len(proof) > MaxProof:
		return fmt.Errorf("%w: the proof is too long", ErrNotContinued)
	}
	hashes := make(tlog.TreeProof, len(proof))
	for i, b := range proof {
		if len(b) != tlog.HashSize {
			return fmt.Errorf("%w: the proof is malformed", ErrNotContinued)
		}
		copy(hashes[i][:], b)
	}
	if err := tlog.CheckTree(hashes, int64(h.Size), h.Root, int64(old.Size), old.Root); err != nil {
		return fmt.Errorf("%w: the proof is wrong", ErrNotContinued)
	}
	return nil
}
