package auth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// KeyFile is the installation key's name in the data folder.
const KeyFile = "secret.key"

const (
	keyBytes      = 32
	sealedVersion = 1
	privateFile   = 0o600
)

// Sealer encrypts small secrets with the installation's key: AES-256-GCM, the
// purpose bound in as additional data, so that a sealed secret cannot be moved
// to another row.
type Sealer struct {
	aead cipher.AEAD
}

// OpenSealer reads the key in the data folder, making it when it is new.
func OpenSealer(dir string) (*Sealer, error) {
	file := filepath.Join(dir, KeyFile)
	raw, err := os.ReadFile(file) //nolint:gosec // a file of the data folder
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, keyBytes)
		_, _ = rand.Read(key) // never fails
		raw = []byte(base64.StdEncoding.EncodeToString(key) + "\n")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make data folder: %w", err)
		}
		err = writePrivate(file, raw)
	}
	if err != nil {
		return nil, fmt.Errorf("installation key: %w", err)
	}
	if st, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("installation key: %w", err)
	} else if st.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return nil, fmt.Errorf("installation key %s can be read by others: run chmod 600 on it", file)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(key) != keyBytes {
		return nil, fmt.Errorf("installation key %s is damaged", file)
	}
	return newSealer(key)
}

func newSealer(key []byte) (*Sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("installation key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("installation key: %w", err)
	}
	return &Sealer{aead: aead}, nil
}

// Seal encrypts a secret for one purpose ("trunk:carrier").
func (s *Sealer) Seal(purpose string, secret []byte) []byte {
	out := make([]byte, 1+s.aead.NonceSize(), 1+s.aead.NonceSize()+len(secret)+s.aead.Overhead())
	out[0] = sealedVersion
	_, _ = rand.Read(out[1:])
	return s.aead.Seal(out, out[1:], secret, []byte(purpose)) //nolint:gosec // the nonce was filled at random
}

// Unseal opens what Seal made for the same purpose.
func (s *Sealer) Unseal(purpose string, sealed []byte) ([]byte, error) {
	n := 1 + s.aead.NonceSize()
	if len(sealed) < n || sealed[0] != sealedVersion {
		return nil, ErrUnseal
	}
	secret, err := s.aead.Open(nil, sealed[1:n], sealed[n:], []byte(purpose))
	if err != nil {
		return nil, ErrUnseal
	}
	return secret, nil
}

// writePrivate replaces a file that only its owner may read, so that a crash
// leaves the old one or the new one.
func writePrivate(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-*") // made 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(file), err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(privateFile), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(file), err)
	}
	return nil
}
