package acl

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"sync"
)

// KeySize is the length of a Seal's key, in bytes.
const KeySize = 32

// Seal keeps secrets of tokens out of what is stored. A secret is stored twice: as a keyed
// hash, by which a token that is presented is found, and sealed, because the API shows it
// again to whoever may write ACLs. The key lies in the replicated state; so this keeps
// secrets out of logs, dumps and listings of the state, not from whoever has both it and
// the key.
type Seal struct {
	macs sync.Pool // of hash.Hash: every request needs one
	aead cipher.AEAD
}

// ErrSeal: what was to be opened was not sealed with this key.
var ErrSeal = errors.New("acl: the sealed secret does not belong to this cluster's key")

// NewSeal makes a seal of a key of KeySize random bytes.
func NewSeal(key []byte) (*Seal, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("acl: a key of %d bytes, want %d", len(key), KeySize)
	}
	mac, err := hkdf.Key(sha256.New, key, nil, "rollcall token hash", KeySize)
	if err != nil {
		return nil, err
	}
	enc, err := hkdf.Key(sha256.New, key, nil, "rollcall token seal", KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(enc)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Seal{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, mac) }}, aead: aead}, nil
}

// Hash gives what a secret is found by.
func (s *Seal) Hash(secret string) string {
	h := s.macs.Get().(hash.Hash) // New makes no other
	defer s.macs.Put(h)
	h.Reset()
	h.Write([]byte(secret))
	var sum [sha256.Size]byte
	return hex.EncodeToString(h.Sum(sum[:0]))
}

// Close seals a secret.
func (s *Seal) Close(secret string) []byte { return s.aead.Seal(nil, nil, []byte(secret), nil) }

// Open gives a sealed secret back.
func (s *Seal) Open(sealed []byte) (string, error) {
	b, err := s.aead.Open(nil, nil, sealed, nil)
	if err != nil {
		return "", ErrSeal
	}
	return string(b), nil
}
