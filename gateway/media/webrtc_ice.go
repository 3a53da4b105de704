package media

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pion/stun/v4"
)

// credentials are one generation of our ICE user fragment and password.
type credentials struct {
	ufrag, pwd string
	generation int
}

func newCredentials(generation int) credentials {
	// rand.Text has 26 characters of base32, all of them ice-chars (RFC 8839
	// section 5.4); 128 bits are what a password needs.
	return credentials{ufrag: rand.Text()[:12], pwd: rand.Text(), generation: generation}
}

// candidates are our host candidates; a lite agent has no others (RFC 8445 section 5.2).
func (m *webrtcMux) candidates() []string {
	list := make([]string, 0, len(m.hosts))
	for i, h := range m.hosts {
		preference := 65535 - i
		priority := 126<<24 | preference<<8 | 255 // RFC 8445 section 5.1.2.1
		list = append(list, fmt.Sprintf("%d 1 udp %d %s %d typ host", i+1, priority, h, m.port))
	}
	return list
}

// stun answers a binding request. A lite agent sends no checks of its own:
// what it learns, it learns from requests that carry its password.
func (m *webrtcMux) stun(b []byte, from netip.AddrPort) {
	msg := stun.Message{Raw: b}
	if err := msg.Decode(); err != nil || msg.Type != stun.BindingRequest {
		m.unknown.Add(1)
		return
	}
	var name stun.Username
	if err := name.GetFrom(&msg); err != nil {
		m.unknown.Add(1)
		return
	}
	ufrag, _, _ := strings.Cut(string(name), ":")
	l := m.byUfrag(ufrag)
	if l == nil {
		m.unknown.Add(1)
		return
	}
	cred, ok := l.credentials(ufrag)
	if !ok {
		return
	}
	integrity := stun.NewShortTermIntegrity(cred.pwd)
	if integrity.Check(&msg) != nil || stun.Fingerprint.Check(&msg) != nil {
		l.p.in.strangers.Add(1)
		return
	}
	setters := []stun.Setter{
		stun.NewTransactionIDSetter(msg.TransactionID), stun.BindingSuccess,
		&stun.XORMappedAddress{IP: from.Addr().AsSlice(), Port: int(from.Port())},
	}
	conflict := msg.Contains(stun.AttrICEControlled) // both sides would wait for the other to choose
	if conflict {
		setters = []stun.Setter{
			stun.NewTransactionIDSetter(msg.TransactionID), stun.NewType(stun.MethodBinding, stun.ClassErrorResponse), stun.CodeRoleConflict,
		}
	}
	reply, err := stun.Build(append(setters, integrity, stun.Fingerprint)...)
	if err != nil {
		m.e.log.Debug("stun reply", "err", err)
		return
	}
	if _, err := m.conn.WriteToUDPAddrPort(reply.Raw, from); err != nil {
		m.e.log.Debug("stun reply", "err", err)
	}
	if !conflict {
		m.learn(from, l)
		l.checked(from, cred.generation, msg.Contains(stun.AttrUseCandidate))
	}
}
