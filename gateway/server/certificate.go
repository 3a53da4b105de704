package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/cordboard/cordboard/gateway/config"
)

// A self-signed certificate lives this long and is made anew when less than
// the margin is left.
const (
	selfSignedFor    = 825 * 24 * time.Hour // what browsers accept at most
	selfSignedMargin = 30 * 24 * time.Hour
)

// certificate makes the TLS configuration of all listeners: files, ACME, or a
// self-signed certificate kept in the data folder. path is the file that
// clients may trust; empty with ACME.
func certificate(c *config.Config, now time.Time) (conf *tls.Config, path string, err error) {
	conf = &tls.Config{MinVersion: tls.VersionTLS12}
	switch t := c.HTTP.TLS; {
	case t.ACME != "":
		m := &autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			Cache:      autocert.DirCache(c.Path("tls", "acme")),
			HostPolicy: autocert.HostWhitelist(t.ACME),
		}
		conf = m.TLSConfig()
		conf.MinVersion = tls.VersionTLS12
		return conf, "", nil
	case t.Cert != "":
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, "", fmt.Errorf("load the certificate of http.tls: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
		return conf, t.Cert, nil
	}
	path = c.Path("tls", "cert.pem")
	keyPath := c.Path("tls", "key.pem")
	names, addrs := selfNames(c)
	pair, err := tls.LoadX509KeyPair(path, keyPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("load the kept certificate: %w", err)
	}
	if err != nil || !fits(pair, names, addrs, now) {
		if err := makeCertificate(path, keyPath, names, addrs, now); err != nil {
			return nil, "", err
		}
		if pair, err = tls.LoadX509KeyPair(path, keyPath); err != nil {
			return nil, "", fmt.Errorf("load the new certificate: %w", err)
		}
	}
	conf.Certificates = []tls.Certificate{pair}
	return conf, path, nil
}

// selfNames are the names and addresses of this machine that a self-signed
// certificate speaks for.
func selfNames(c *config.Config) (names []string, addrs []netip.Addr) {
	names = []string{"localhost"}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		names = append(names, host)
	}
	addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	add := func(a netip.Addr) {
		if a.IsValid() && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	add(c.Media.PublicIP)
	add(c.TURN.PublicIP)
	if all, err := net.InterfaceAddrs(); err == nil {
		for _, a := range all {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				add(p.Addr())
			}
		}
	}
	return names, addrs
}

// fits reports whether a kept certificate still speaks for this machine.
func fits(pair tls.Certificate, names []string, addrs []netip.Addr, now time.Time) bool {
	leaf := pair.Leaf
	if leaf == nil || now.Add(selfSignedMargin).After(leaf.NotAfter) {
		return false
	}
	for _, n := range names {
		if leaf.VerifyHostname(n) != nil {
			return false
		}
	}
	for _, a := range addrs {
		if leaf.VerifyHostname(a.String()) != nil {
			return false
		}
	}
	return true
}

func makeCertificate(path, keyPath string, names []string, addrs []netip.Addr, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("make a serial number: %w", err)
	}
	tmpl := x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Cordboard gateway", Organization: []string{"self-signed"}},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(selfSignedFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: names,
	}
	for _, a := range addrs {
		tmpl.IPAddresses = append(tmpl.IPAddresses, a.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, &tmpl, &tmpl, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the folder of the certificate: %w", err)
	}
	if err := os.WriteFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return fmt.Errorf("keep the key: %w", err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("keep the certificate: %w", err)
	}
	return nil
}
