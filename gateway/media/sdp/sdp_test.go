package sdp

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func load(t *testing.T, name string) *Session {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".sdp"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func audio(t *testing.T, s *Session) *Media {
	t.Helper()
	i := s.Audio()
	if i < 0 {
		t.Fatal("no audio")
	}
	return &s.Media[i]
}

func TestParseChrome(t *testing.T) {
	s := load(t, "chrome-offer")
	if len(s.Media) != 2 || len(s.Bundle) != 2 || s.Media[1].Active() {
		t.Fatalf("%d media, bundle %v", len(s.Media), s.Bundle)
	}
	m := audio(t, s)
	if m.Proto != "UDP/TLS/RTP/SAVPF" || !m.Secure() || !m.RTCP.Mux || !m.RTCP.ReducedSize || m.MID != "0" || m.Held() {
		t.Errorf("%+v", m)
	}
	if m.Addr() != netip.MustParseAddrPort("192.0.2.33:55012") {
		t.Errorf("address %v", m.Addr())
	}
	if m.RTCPAddr() != m.Addr() {
		t.Errorf("rtcp at %v though multiplexed", m.RTCPAddr())
	}
	if m.ICE.Ufrag != "2kQm" || m.ICE.Pwd == "" || len(m.ICE.Candidates) != 2 || m.DTLS.Setup != "actpass" || len(m.DTLS.Fingerprints) != 1 {
		t.Errorf("ice %+v dtls %+v", m.ICE, m.DTLS)
	}
	want := Format{PayloadType: 111, Name: "opus", ClockRate: 48000, Channels: 2, Params: "minptime=10;useinbandfec=1", Feedback: []string{"transport-cc"}}
	if d := cmp.Diff(want, m.Formats[0]); d != "" {
		t.Error(d)
	}
	if m.Formats[0].Param("useinbandfec") != "1" || m.Formats[0].Param("stereo") != "" {
		t.Error("fmtp is not understood")
	}
	if v, ok := m.Attribute("msid"); !ok || v != "9f1c5d3e-1a2b 7d7c" {
		t.Errorf("msid %q", v)
	}
}

func TestSessionSpeaksForItsMedia(t *testing.T) {
	m := audio(t, load(t, "firefox-offer"))
	if len(m.DTLS.Fingerprints) != 1 || !strings.HasPrefix(m.DTLS.Fingerprints[0].Value, "4B:5F") || m.ICE.Options != "trickle" {
		t.Errorf("dtls %+v, ice %+v", m.DTLS, m.ICE)
	}
	if m.Held() {
		t.Error("c=0.0.0.0 with ICE is no hold")
	}
	s := load(t, "carrier-ipv6-hold")
	m = audio(t, s)
	if m.Direction != SendOnly || !m.Held() || m.Host != "2001:db8::16" || s.Media[1].Host != "2001:db8::15" {
		t.Errorf("%v %q %q", m.Direction, m.Host, s.Media[1].Host)
	}
	if m.Addr() != netip.MustParseAddrPort("[2001:db8::16]:40000") || m.RTCPAddr().Port() != 40001 {
		t.Errorf("%v %v", m.Addr(), m.RTCPAddr())
	}
	if m.Formats[2].Name != "PCMU" || m.Formats[4].Name != "CN" {
		t.Errorf("static types are not filled in: %+v", m.Formats)
	}
	if m.Ptime != 20*time.Millisecond {
		t.Errorf("ptime %v", m.Ptime)
	}
}

func TestHold(t *testing.T) {
	tests := map[string]bool{"chrome-offer": false, "chrome-hold": true, "old-hold": true, "carrier-ipv6-hold": true, "asterisk-answer": false, "sipp-static": false}
	for name, want := range tests {
		if got := audio(t, load(t, name)).Held(); got != want {
			t.Errorf("%s: held %v", name, got)
		}
	}
	for _, text := range []string{"a=inactive", "a=recvonly"} {
		s, err := Parse([]byte("v=0\no=- 1 1 IN IP4 1.2.3.4\nc=IN IP4 1.2.3.4\nm=audio 9 RTP/AVP 0\n" + text))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Media[0].Held(); got != (text == "a=inactive") {
			t.Errorf("%s: held %v", text, got)
		}
	}
}

func TestChoose(t *testing.T) {
	opus := Format{Name: "opus", ClockRate: 48000, Channels: 2}
	pcma := Format{Name: "PCMA", ClockRate: 8000}
	pcmu := Format{Name: "PCMU", ClockRate: 8000, Channels: 1}
	tel8 := Format{Name: "telephone-event", ClockRate: 8000}
	tel48 := Format{Name: "telephone-event", ClockRate: 48000}
	tests := []struct {
		name   string
		offer  string
		ours   []Format
		choose []uint8
		prefer []uint8
		err    error
	}{
		{"all of ours", "chrome-offer", []Format{pcma, opus, pcmu, tel8, tel48}, []uint8{111, 0, 8, 110, 126}, []uint8{8, 111, 0, 126, 110}, nil},
		{"events only of the chosen clock", "chrome-offer", []Format{pcma, tel8, tel48}, []uint8{8, 126}, []uint8{8, 126}, nil},
		{"opus alone has its own events", "chrome-offer", []Format{opus, tel8, tel48}, []uint8{111, 110}, []uint8{111, 110}, nil},
		{"static without a map", "sipp-static", []Format{pcma, pcmu, tel8}, []uint8{0}, []uint8{0}, nil},
		{"a carrier that prefers G.729", "carrier-ipv6-hold", []Format{pcmu, pcma, tel8}, []uint8{8, 0, 96}, []uint8{0, 8, 96}, nil},
		{"nothing in common", "sipp-static", []Format{pcma, opus, tel8}, nil, nil, ErrNoCommonCodec},
		{"events alone are no speech", "asterisk-answer", []Format{pcmu, tel8}, nil, nil, ErrNoCommonCodec},
	}
	types := func(f []Format) (pts []uint8) {
		for _, f := range f {
			pts = append(pts, f.PayloadType)
		}
		return pts
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := audio(t, load(t, tt.offer))
			got, err := Choose(m, tt.ours)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v", err)
			}
			if d := cmp.Diff(tt.choose, types(got)); d != "" {
				t.Error(d)
			}
			got, _ = Prefer(m, tt.ours)
			if d := cmp.Diff(tt.prefer, types(got)); d != "" {
				t.Error(d)
			}
		})
	}
	m := audio(t, load(t, "chrome-offer"))
	if f, ok := Speech(m.Formats); !ok || f.Name != "opus" {
		t.Errorf("speech is %+v", f)
	}
	if f, ok := Events(m.Formats, 8000); !ok || f.PayloadType != 126 {
		t.Errorf("events are %+v", f)
	}
}

func TestRefusalAnswersEveryMedia(t *testing.T) {
	s := load(t, "carrier-ipv6-hold")
	a := s.Refusal(Origin{ID: 1, Version: 1, Host: "127.0.0.1"})
	again, err := Parse(a.Write())
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Media) != 3 {
		t.Fatalf("%d media", len(again.Media))
	}
	for i, m := range again.Media {
		if m.Port != 0 || m.Kind != s.Media[i].Kind || m.Proto != s.Media[i].Proto || len(m.Formats)+len(m.Other) != 1 {
			t.Errorf("media %d: %+v", i, m)
		}
	}
}

func TestDirectionReverse(t *testing.T) {
	for d, want := range map[Direction]Direction{SendRecv: SendRecv, SendOnly: RecvOnly, RecvOnly: SendOnly, Inactive: Inactive} {
		if got := d.Reverse(); got != want {
			t.Errorf("%v answered with %v", d, got)
		}
	}
}

func TestParseTakesWhatPeersWrite(t *testing.T) {
	const head = "v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\n"
	tests := map[string]string{
		"bare line feeds":       "v=0\no=- 1 1 IN IP4 1.2.3.4\ns=-\nc=IN IP4 1.2.3.4\nt=0 0\nm=audio 4000 RTP/AVP 0\n",
		"no s= and no t=":       head + "c=IN IP4 1.2.3.4\r\nm=audio 4000 RTP/AVP 0\r\n",
		"empty lines, no end":   head + "\r\nc=IN IP4 1.2.3.4\r\n\r\nm=audio 4000 RTP/AVP 0",
		"negative session id":   "v=0\r\no=- -12345 99999999999999999999999 IN IP4 1.2.3.4\r\nc=IN IP4 1.2.3.4\r\nm=audio 4000 RTP/AVP 0\r\n",
		"name with spaces":      "v=0\r\no=My Phone 1 1 IN IP4 1.2.3.4\r\nc=IN IP4 1.2.3.4\r\nm=audio 4000 RTP/AVP 0\r\n",
		"a type twice":          head + "c=IN IP4 1.2.3.4\r\nm=audio 4000 RTP/AVP 0 0 0\r\n",
		"map for another type":  head + "c=IN IP4 1.2.3.4\r\nm=audio 4000 RTP/AVP 0\r\na=rtpmap:97 iLBC/8000\r\na=fmtp:97 mode=20\r\n",
		"broken ptime":          head + "c=IN IP4 1.2.3.4\r\nm=audio 4000 RTP/AVP 0\r\na=ptime:abc\r\n",
		"unknown lines":         head + "i=x\r\nu=http://x\r\nz=0\r\nk=clear:x\r\nc=IN IP4 1.2.3.4\r\nm=audio 4000 RTP/AVP 0\r\ni=x\r\nk=prompt\r\n",
		"multicast ttl":         head + "c=IN IP4 1.2.3.4/127\r\nm=audio 4000 RTP/AVP 0\r\n",
		"trailing white space":  head + "c=IN IP4 1.2.3.4 \r\nm=audio 4000 RTP/AVP 0 \r\n",
		"upper case media kind": head + "c=IN IP4 1.2.3.4\r\nm=AUDIO 4000 RTP/AVP 0\r\n",
	}
	for name, text := range tests {
		s, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s.Audio() != 0 || s.Media[0].Addr() != netip.MustParseAddrPort("1.2.3.4:4000") || len(s.Media[0].Formats) != 1 {
			t.Errorf("%s: %+v", name, s.Media)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const head = "v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\n"
	tests := []struct {
		name, text string
		err        error
	}{
		{"nothing", "", ErrSyntax},
		{"prose", "hello\r\n", ErrSyntax},
		{"another version", "v=1\r\n", ErrSyntax},
		{"no version", "o=- 1 1 IN IP4 1.2.3.4\r\n", ErrSyntax},
		{"no origin", "v=0\r\n", ErrSyntax},
		{"short m=", head + "m=audio 4000\r\n", ErrSyntax},
		{"a port that is none", head + "m=audio 70000 RTP/AVP 0\r\n", ErrSyntax},
		{"a payload type over 127", head + "m=audio 4000 RTP/AVP 200\r\n", ErrSyntax},
		{"a map without a clock", head + "m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 iLBC\r\n", ErrSyntax},
		{"a clock of 0", head + "m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 iLBC/0\r\n", ErrSyntax},
		{"a bad crypto", head + "m=audio 4000 RTP/SAVP 0\r\na=crypto:x y\r\n", ErrSyntax},
		{"a carriage return inside", head + "s=a\rm=audio\r\n", ErrSyntax},
		{"too many bytes", head + strings.Repeat("a=x:"+strings.Repeat("y", 90)+"\r\n", 800), ErrTooLarge},
		{"too many lines", head + strings.Repeat("a\r\n", 1) + strings.Repeat("i=\r\n", MaxLines+1), ErrSyntax},
		{"too many media", head + strings.Repeat("m=audio 4000 RTP/AVP 0\r\n", MaxMedia+1), ErrTooLarge},
		{"too many attributes", head + strings.Repeat("a=x\r\n", MaxAttributes+1), ErrTooLarge},
	}
	for _, tt := range tests {
		if _, err := Parse([]byte(tt.text)); !errors.Is(err, tt.err) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := Parse([]byte(head + strings.Repeat("i=\r\n", MaxLines+1))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too many lines: %v", err)
	}
}

func TestCrypto(t *testing.T) {
	for _, suite := range []string{AES128SHA1Tag80, AES128SHA1Tag32, AEADAES128GCM, AEADAES256GCM} {
		c, err := NewCrypto(1, suite)
		if err != nil {
			t.Fatal(err)
		}
		k, s, _ := KeySize(suite)
		key, salt, err := c.Keys()
		if err != nil || len(key) != k || len(salt) != s {
			t.Errorf("%s: %d+%d bytes, %v", suite, len(key), len(salt), err)
		}
		other, err := NewCrypto(1, suite)
		if err != nil || other.Params == c.Params {
			t.Errorf("%s: the same key twice", suite)
		}
	}
	m := audio(t, load(t, "baresip-sdes"))
	if c, ok := ChooseCrypto(m.Crypto); !ok || c.Tag != 1 || c.Suite != AES128SHA1Tag80 {
		t.Errorf("chose %+v", c)
	}
	key30 := base64.StdEncoding.EncodeToString(make([]byte, 30))
	tests := []struct {
		name, line string
		ok         bool
	}{
		{"plain", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30, true},
		{"with a lifetime", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^48", true},
		{"with a window hint", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " WSH=128", true},
		{"with an MKI", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^48|1:4", false},
		{"unencrypted", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " UNENCRYPTED_SRTP", false},
		{"window hint and unencrypted", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " WSH=64 UNENCRYPTED_SRTCP", false},
		{"two keys", "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + ";inline:" + key30, false},
		{"a short key", "1 AES_CM_128_HMAC_SHA1_80 inline:AAAA", false},
		{"an unknown suite", "1 F8_128_HMAC_SHA1_80 inline:" + key30, false},
		{"no base64", "1 AES_CM_128_HMAC_SHA1_80 inline:!!!!", false},
	}
	for _, tt := range tests {
		c, err := parseCrypto(tt.line)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Keys(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestWriteIsWhatPeersExpect(t *testing.T) {
	s := &Session{
		Origin: Origin{ID: 5, Version: 6, Host: "198.51.100.1"}, Host: "198.51.100.1",
		Media: []Media{{
			Kind: "audio", Port: 10000, Proto: "RTP/SAVP", Host: "198.51.100.1", Ptime: 20 * time.Millisecond,
			Formats: []Format{{PayloadType: 8, Name: "PCMA", ClockRate: 8000, Channels: 1}, {PayloadType: 101, Name: "telephone-event", ClockRate: 8000, Params: "0-16"}},
			Crypto:  []Crypto{{Tag: 1, Suite: AES128SHA1Tag80, Params: "inline:AAAA"}},
			RTCP:    RTCP{Mux: true},
		}},
	}
	want := strings.ReplaceAll(`v=0
o=- 5 6 IN IP4 198.51.100.1
s=-
c=IN IP4 198.51.100.1
t=0 0
m=audio 10000 RTP/SAVP 8 101
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=ptime:20
a=rtcp-mux
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA
a=sendrecv
`, "\n", "\r\n")
	if d := cmp.Diff(want, string(s.Write())); d != "" {
		t.Error(d)
	}
}

func TestRoundTrip(t *testing.T) {
	files, err := filepath.Glob("testdata/*.sdp")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		s := load(t, strings.TrimSuffix(filepath.Base(f), ".sdp"))
		again, err := Parse(s.Write())
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		if d := cmp.Diff(s, again); d != "" {
			t.Errorf("%s: %s", f, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.sdp")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("v=0\no=- 1 1 IN IP4 \nm=audio 9 RTP/AVP 0\na=rtcp:1 IN IP6 ::1\nc=IN IP6 fe80::1%eth0"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		once := s.Write()
		again, err := Parse(once)
		if err != nil {
			if errors.Is(err, ErrTooLarge) {
				return // what the session said is now said by each media
			}
			t.Fatalf("%v of %q", err, once)
		}
		if twice := again.Write(); !bytes.Equal(once, twice) {
			t.Fatalf("not stable:\n%s", cmp.Diff(string(once), string(twice)))
		}
		if d := cmp.Diff(s, again); d != "" {
			t.Fatal(d)
		}
		for i := range s.Media {
			m := &s.Media[i]
			_, _ = Choose(m, m.Formats)
			_, _ = ChooseCrypto(m.Crypto)
			_, _, _ = m.Held(), m.Addr(), m.RTCPAddr()
		}
		s.Refusal(Origin{Host: "127.0.0.1"}).Write()
	})
}

func BenchmarkParse(b *testing.B) {
	text, err := os.ReadFile("testdata/chrome-offer.sdp")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
