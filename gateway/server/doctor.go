package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// Limits of what is well.
const (
	slowPing       = 250 * time.Millisecond
	tablesBehind   = 1000 // facts
	certWarn       = 14 * 24 * time.Hour
	diskWarnBytes  = 5 << 30
	diskFailBytes  = 500 << 20
	diskWarnShare  = 0.05
	inodeWarnShare = 0.02
	clockWarn      = 500 * time.Millisecond
)

// Examine implements rest.Care: what the gateway finds about itself.
func (c care) Examine(ctx context.Context) (findings []api.Finding, listeners []api.Listener, trunks []api.TestTrunk) {
	s := c.s
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	findings = append(findings, c.database(ctx), c.journal(ctx), c.tables())
	findings = append(findings, c.disk(), c.recordings())
	findings = append(findings, certificateFinding(s.leaf(), s.c.HTTP.TLS.ACME, s.publicIP().String(), time.Now()))
	findings = append(findings, clockFinding(), c.address(), c.tools())
	findings = append(findings, c.alarmed()...)
	findings = append(findings, c.trunks()...)
	for _, t := range s.trunks.Status() {
		if l, ok := s.trunks.Line(t.Name); ok && l.Config().TestNumber != "" {
			trunks = append(trunks, api.TestTrunk{Name: t.Name})
		}
	}
	return findings, c.listeners(), trunks
}

func ok(check, format string, a ...any) api.Finding {
	return api.Finding{Check: check, Status: api.FindingOK, Detail: fmt.Sprintf(format, a...)}
}

func warn(check, cure, format string, a ...any) api.Finding {
	return api.Finding{Check: check, Status: api.FindingWarn, Detail: fmt.Sprintf(format, a...), Cure: cure}
}

func fail(check, cure, format string, a ...any) api.Finding {
	return api.Finding{Check: check, Status: api.FindingFail, Detail: fmt.Sprintf(format, a...), Cure: cure}
}

func (c care) database(ctx context.Context) api.Finding {
	const check = "database"
	at := time.Now()
	if err := c.s.db.Ping(ctx); err != nil {
		return fail(check, "see that the database runs and that database.url is right; calls go on meanwhile, and the log tables catch up", "does not answer: %v", err)
	}
	took := time.Since(at).Round(10 * time.Microsecond)
	if took > slowPing {
		return warn(check, "a disk or a network that is too slow: look at the machine's load", "%s answers only after %v", c.s.db.Engine(), took)
	}
	return ok(check, "%s answers in %v", c.s.db.Engine(), took)
}

func (c care) journal(ctx context.Context) api.Finding {
	const check = "journal"
	st := c.s.stream.Stats()
	switch err := c.s.stream.Ping(ctx); {
	case err != nil:
		return fail(check, "see that the disk of the data folder is neither full nor broken, or that nats.url is reached; facts wait in memory, so do not restart before", "%v; %d facts wait", err, st.Waiting)
	case st.Lost > 0:
		return warn(check, "the journal was gone for longer than memory lasts; reports lack those facts", "%d facts found no place since the start", st.Lost)
	}
	return ok(check, "answers; %d facts since the start, %d of them late", st.Appended, st.Late)
}

func (c care) tables() api.Finding {
	const check = "log tables"
	st := c.s.projector.Stats()
	switch {
	case st.Poisoned > 0:
		return warn(check, "report the lines \"fact put aside\" of the log", "%d facts could not be read and were put aside", st.Poisoned)
	case st.Behind > tablesBehind:
		return warn(check, "they catch up by themselves; if the number grows the database is too slow", "%d facts are not in the tables yet", st.Behind)
	}
	return ok(check, "up to date (%d facts behind)", st.Behind)
}

// space is what a file system has.
type space struct {
	free, total       uint64 // bytes
	freeFile, allFile uint64 // inodes; 0, 0 if it does not count them
}

func (c care) disk() api.Finding {
	dir, err := filepath.Abs(c.s.c.Data)
	if err != nil {
		dir = c.s.c.Data
	}
	sp, err := diskSpace(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		return ok("disk", "free space is not known on this system")
	}
	if err != nil {
		return fail("disk", "see that the data folder exists and can be read", "%s: %v", dir, err)
	}
	return diskFinding(dir, sp)
}

func diskFinding(dir string, sp space) api.Finding {
	const check = "disk"
	const cure = "delete or move old recordings, or give the data folder a larger disk; when it is full, recordings stop and calls go on"
	text := fmt.Sprintf("%s of %s free in %s", bytesText(sp.free), bytesText(sp.total), dir)
	switch {
	case sp.free < diskFailBytes:
		return fail(check, cure, "only %s", text)
	case float64(sp.free) < diskWarnShare*float64(sp.total) || sp.free < diskWarnBytes:
		return warn(check, cure, "%s", text)
	case sp.allFile > 0 && float64(sp.freeFile) < inodeWarnShare*float64(sp.allFile):
		return warn(check, "the file system runs out of inodes: delete small files", "%s, but only %d more files fit", text, sp.freeFile)
	}
	return ok(check, "%s", text)
}

func bytesText(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%d KiB", n>>10)
	}
}

// recordings writes and deletes a file where recordings go.
func (c care) recordings() api.Finding {
	const check = "recordings"
	dir := c.s.recordingsDir()
	try := func() error {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		f, err := os.CreateTemp(dir, ".doctor-*")
		if err != nil {
			return err
		}
		_, err = f.Write(make([]byte, 4096))
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	if err := try(); err != nil {
		return fail(check, "give the gateway's user the right to write there, and the disk room", "cannot be written: %v", err)
	}
	return ok(check, "can be written to %s", dir)
}

// leaf is the certificate of all listeners; nil with ACME.
func (s *Server) leaf() *x509.Certificate {
	if len(s.tls.Certificates) == 0 {
		return nil
	}
	return s.tls.Certificates[0].Leaf
}

func certificateFinding(leaf *x509.Certificate, acme, address string, now time.Time) api.Finding {
	const check = "certificate"
	if leaf == nil {
		return ok(check, "fetched for %s when a client asks", acme)
	}
	left := leaf.NotAfter.Sub(now)
	cure := "put a new one at http.tls.cert and http.tls.key and restart; a self-signed one is made anew at a restart"
	switch {
	case now.Before(leaf.NotBefore):
		return fail(check, "set this machine's clock, or get another certificate", "is valid only from %s", leaf.NotBefore.Format(time.DateTime))
	case left <= 0:
		return fail(check, cure, "expired on %s: no phone connects", leaf.NotAfter.Format(time.DateOnly))
	case left < certWarn:
		return warn(check, cure, "expires on %s", leaf.NotAfter.Format(time.DateOnly))
	case len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0:
		return fail(check, "get one with subject alternative names; clients no longer look at the common name", "names no host")
	}
	self := "from " + leaf.Issuer.CommonName
	if leaf.CheckSignatureFrom(leaf) == nil || leaf.Issuer.String() == leaf.Subject.String() {
		self = "self-signed"
		if ip := net.ParseIP(address); ip != nil && leaf.VerifyHostname(address) != nil {
			return warn(check, "restart the gateway: it makes one for the addresses of now", "self-signed, and not for this machine's address %s", address)
		}
	}
	return ok(check, "%s, for %s, until %s", self, names(leaf), leaf.NotAfter.Format(time.DateOnly))
}

func names(leaf *x509.Certificate) string {
	all := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		all = append(all, ip.String())
	}
	const most = 6
	if len(all) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
	}
	return strings.Join(all, ", ")
}

// address says which address callers are told to send media to.
func (c care) address() api.Finding {
	const check = "media address"
	a := c.s.publicIP()
	switch {
	case c.s.c.Media.PublicIP.IsValid() && isLocal(a):
		return ok(check, "%s, as configured", a)
	case c.s.c.Media.PublicIP.IsValid():
		return ok(check, "%s, as configured; it is not of this machine, so a router must pass udp %s and %s on to it", a, c.s.c.Media.WebRTCUDP, c.s.c.Media.RTPPorts)
	case a.IsLoopback():
		return ok(check, "%s: only this machine hears anything", a)
	case a.IsPrivate():
		return ok(check, "%s: phones and carriers outside of that network hear nothing unless media.public_ip is set", a)
	}
	return ok(check, "%s", a)
}

// tools are programs that some features need.
func (care) tools() api.Finding {
	const check = "programs"
	has := func(names ...string) bool {
		for _, n := range names {
			if _, err := exec.LookPath(n); err == nil {
				return true
			}
		}
		return false
	}
	var lacks []string
	if !has("espeak-ng") {
		lacks = append(lacks, "espeak-ng (spoken prompts)")
	}
	if !has("lame", "ffmpeg") {
		lacks = append(lacks, "lame or ffmpeg (recordings as MP3)")
	}
	if !has("ffmpeg", "sox") {
		lacks = append(lacks, "ffmpeg or sox (sound files other than WAV)")
	}
	if len(lacks) > 0 {
		return warn(check, "install them (Debian: apt-get install espeak-ng lame sox)", "missing: %s", strings.Join(lacks, "; "))
	}
	return ok(check, "speech, MP3 and sound conversion are there")
}

// alarmed are the alarms that are up.
func (c care) alarmed() []api.Finding {
	var out []api.Finding
	for name, message := range c.s.alarms.all() {
		out = append(out, fail("alarm "+name, "see \"Alarms\" in docs/operations.md", "%s", message))
	}
	return out
}

func (c care) trunks() []api.Finding {
	all := c.s.trunks.Status()
	if len(all) == 0 {
		return []api.Finding{warn("trunks", "add one to the state file and run gateway apply", "there is none: no customer can call")}
	}
	out := make([]api.Finding, 0, len(all))
	for _, t := range all {
		out = append(out, trunkFinding(t))
	}
	return out
}

func trunkFinding(t trunk.Status) api.Finding {
	check := "trunk " + t.Name
	why := ""
	if t.LastError != "" {
		why = ": " + t.LastError
	}
	switch {
	case t.State == trunk.StateDown:
		return fail(check, "see that "+t.Destination+" is right and reached (firewall, transport); ask the carrier whether it answers OPTIONS from our address", "does not answer since %s%s", t.Since.Format(time.TimeOnly), why)
	case t.Register && !t.Registered:
		return fail(check, "check username, password and address of the trunk", "is not registered at the carrier%s", why)
	case t.State == trunk.StateUnknown:
		return warn(check, "run doctor again in half a minute", "has not answered yet%s", why)
	case t.MaxChannels > 0 && t.Channels >= t.MaxChannels:
		return warn(check, "raise maxChannels if the carrier allows more", "all %d channels are taken: further calls are refused", t.MaxChannels)
	}
	text := fmt.Sprintf("answers in %v, %d channels in use", t.RTT.Round(time.Millisecond/10), t.Channels)
	if t.Register {
		text += ", registered"
	}
	return ok(check, "%s", text)
}

// listeners are the addresses at which this gateway should answer.
func (c care) listeners() []api.Listener {
	s := c.s
	httpAddr, secure := s.c.HTTP.Addr()
	web := "http"
	if secure {
		web = "https"
	}
	var out []api.Listener
	for _, l := range []api.Listener{
		{Key: "http.listen", Protocol: web, Address: httpAddr},
		{Key: "sip.udp", Protocol: "sip-udp", Address: s.c.SIP.UDP},
		{Key: "sip.tcp", Protocol: "sip-tcp", Address: s.c.SIP.TCP},
		{Key: "sip.tls", Protocol: "sip-tls", Address: s.c.SIP.TLS},
		{Key: "sip.wss", Protocol: "wss", Address: s.c.SIP.WSS},
		{Key: "turn.udp", Protocol: "stun-udp", Address: s.c.TURN.UDP},
		{Key: "turn.tcp", Protocol: "stun-tcp", Address: s.c.TURN.TCP},
		{Key: "turn.tls", Protocol: "stun-tls", Address: s.c.TURN.TLS},
	} {
		if at := reachable("%s", l.Address); len(at) == 1 {
			l.Address = at[0]
			out = append(out, l)
		}
	}
	return out
}
