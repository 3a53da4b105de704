package server

import (
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/trunk"
)

func TestDiskIsWatchedBeforeItIsFull(t *testing.T) {
	const gib = 1 << 30
	tests := []struct {
		name string
		sp   space
		want string
	}{
		{"plenty", space{free: 50 * gib, total: 100 * gib, freeFile: 50, allFile: 100}, api.FindingOK},
		{"little", space{free: 4 * gib, total: 20 * gib}, api.FindingWarn},
		{"little of much", space{free: 40 * gib, total: 1000 * gib}, api.FindingWarn},
		{"nearly nothing", space{free: 400 << 20, total: 1000 * gib}, api.FindingFail},
		{"no inodes", space{free: 50 * gib, total: 100 * gib, freeFile: 1, allFile: 100}, api.FindingWarn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := diskFinding("/data", tt.sp)
			if f.Status != tt.want || !strings.Contains(f.Detail, "/data") || (f.Status != api.FindingOK && f.Cure == "") {
				t.Errorf("%+v", f)
			}
		})
	}
	if _, err := diskSpace("/nowhere/at/all"); err == nil {
		t.Error("a folder that is not there has space")
	}
}

func TestCertificateIsWatched(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	leaf := func(from, to time.Duration) *x509.Certificate {
		return &x509.Certificate{NotBefore: now.Add(from), NotAfter: now.Add(to), DNSNames: []string{"voice.example.com"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}}
	}
	const day = 24 * time.Hour
	nameless := leaf(-day, 90*day)
	nameless.DNSNames, nameless.IPAddresses = nil, nil
	tests := []struct {
		name    string
		leaf    *x509.Certificate
		address string
		want    string
		says    string
	}{
		{"good", leaf(-day, 90*day), "192.0.2.1", api.FindingOK, "voice.example.com"},
		{"acme", nil, "192.0.2.1", api.FindingOK, "voice.example.com"},
		{"soon over", leaf(-day, 10*day), "192.0.2.1", api.FindingWarn, "expires"},
		{"over", leaf(-day, -time.Hour), "192.0.2.1", api.FindingFail, "expired"},
		{"not yet", leaf(day, 90*day), "192.0.2.1", api.FindingFail, "valid only from"},
		{"no names", nameless, "192.0.2.1", api.FindingFail, "no host"},
		{"another address", leaf(-day, 90*day), "192.0.2.77", api.FindingWarn, "192.0.2.77"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := certificateFinding(tt.leaf, "voice.example.com", tt.address, now)
			if f.Status != tt.want || !strings.Contains(f.Detail, tt.says) || (f.Status != api.FindingOK && f.Cure == "") {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestTrunksAreJudged(t *testing.T) {
	tests := []struct {
		name string
		st   trunk.Status
		want string
		says string
	}{
		{"up", trunk.Status{State: trunk.StateUp, RTT: 12 * time.Millisecond, Channels: 3}, api.FindingOK, "12ms"},
		{"registered", trunk.Status{State: trunk.StateUp, Register: true, Registered: true}, api.FindingOK, "registered"},
		{"down", trunk.Status{State: trunk.StateDown, LastError: "no answer", Destination: "192.0.2.9:5060"}, api.FindingFail, "no answer"},
		{"not registered", trunk.Status{State: trunk.StateUp, Register: true, LastError: "403 Forbidden"}, api.FindingFail, "403"},
		{"not asked yet", trunk.Status{State: trunk.StateUnknown}, api.FindingWarn, "not answered"},
		{"full", trunk.Status{State: trunk.StateUp, Channels: 30, MaxChannels: 30}, api.FindingWarn, "30 channels"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.st.Name = "carrier"
			f := trunkFinding(tt.st)
			if f.Check != "trunk carrier" || f.Status != tt.want || !strings.Contains(f.Detail, tt.says) || (f.Status != api.FindingOK && f.Cure == "") {
				t.Errorf("%+v", f)
			}
		})
	}
}
