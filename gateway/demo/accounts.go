package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"strings"

	"github.com/cordboard/cordboard/gateway/api"
)

// File is demo.json: what a newcomer or a test needs to know.
type File struct {
	URL      string    `json:"url"`
	Cert     string    `json:"certificate"`
	SIP      SIP       `json:"sip"`
	TURN     TURN      `json:"turn"`
	Carrier  string    `json:"carrier"`
	Accounts []Account `json:"accounts"`
}

// SIP are the addresses of signalling.
type SIP struct {
	UDP string `json:"udp"`
	TCP string `json:"tcp"`
	TLS string `json:"tls"`
	WSS string `json:"wss"`
}

// TURN are the addresses of STUN and TURN.
type TURN struct {
	UDP string `json:"udp"`
	TCP string `json:"tcp"`
	TLS string `json:"tls"`
}

// Account is one user of the demonstration.
type Account struct {
	Username  string            `json:"username"`
	Password  string            `json:"password"`
	Extension string            `json:"extension"`
	Roles     []string          `json:"roles"`
	Devices   map[string]string `json:"devices,omitempty"` // name: secret
}

// setUp writes the company's state and demo.json.
func (d *show) setUp(ctx context.Context) error {
	path := d.o.path("demo.json")
	old := File{}
	if b, err := os.ReadFile(path); err == nil { //nolint:gosec // a file of the data folder
		if err := json.Unmarshal(b, &old); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", path, err)
	}
	known := map[string]Account{}
	for _, a := range old.Accounts {
		known[a.Username] = a
	}
	doc, err := State(d.carrier.Addr().String(), func(username, device string) (string, error) {
		a := known[username]
		if device == "" && a.Password != "" {
			return a.Password, nil
		}
		if device != "" && a.Devices[device] != "" {
			return a.Devices[device], nil
		}
		return passphrase()
	})
	if err != nil {
		return err
	}
	if err := d.o.Gateway.Apply(ctx, doc); err != nil {
		return fmt.Errorf("demo state: %w", err)
	}
	f := d.o.Addresses
	f.Carrier = d.carrier.Addr().String()
	for _, u := range doc.Users {
		a := Account{Username: u.Username, Password: deref(u.Password), Extension: deref(u.Extension)}
		if u.Roles != nil {
			a.Roles = *u.Roles
		}
		devices := []api.Device{}
		if u.Devices != nil {
			devices = *u.Devices
		}
		for _, dev := range devices {
			if a.Devices == nil {
				a.Devices = map[string]string{}
			}
			a.Devices[dev.Name] = deref(dev.Secret)
		}
		f.Accounts = append(f.Accounts, a)
		if err := os.WriteFile(d.o.path("demo", u.Username+".password"), []byte(a.Password+"\n"), 0o600); err != nil {
			return fmt.Errorf("keep a password: %w", err)
		}
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	d.accounts = f
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// passphrase makes a password that can be read aloud: three words and two digits.
func passphrase() (string, error) {
	words := Words()
	var b strings.Builder
	for range 3 {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(words))))
		if err != nil {
			return "", fmt.Errorf("make a password: %w", err)
		}
		b.WriteString(words[n.Int64()] + "-")
	}
	n, err := rand.Int(rand.Reader, big.NewInt(90))
	if err != nil {
		return "", fmt.Errorf("make a password: %w", err)
	}
	fmt.Fprintf(&b, "%d", n.Int64()+10)
	return b.String(), nil
}
