package rtc

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

const chromium = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n" +
	"m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:ab\r\na=ice-pwd:cd\r\n" +
	"a=fingerprint:sha-256 00\r\na=mid:0\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\n" +
	"a=rtpmap:9 G722/8000\r\na=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\n" +
	"m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=inactive\r\na=rtpmap:96 VP8/90000\r\n"

func codecs(t *testing.T, names ...string) (out []codec.Codec) {
	t.Helper()
	for _, n := range names {
		c, ok := codec.Lookup(n)
		if !ok {
			t.Fatal(n)
		}
		out = append(out, c)
	}
	return out
}

func TestReadDescription(t *testing.T) {
	d, err := readDescription([]byte(chromium))
	if err != nil {
		t.Fatal(err)
	}
	if d.direction != SendOnly || !d.mid || !d.webrtc {
		t.Errorf("%+v", d)
	}
	want := []format{
		{111, "opus", 48000},
		{63, "red", 48000},
		{9, "G722", 8000},
		{0, "PCMU", 8000},
		{8, "PCMA", 8000},
		{13, "CN", 8000},
		{110, "telephone-event", 48000},
		{126, "telephone-event", 8000},
	}
	if diff := cmp.Diff(want, d.formats, cmp.AllowUnexported(format{})); diff != "" {
		t.Error(diff)
	}
	// The offerer's order counts, and the telephone-event of the same clock.
	for _, tt := range []struct {
		ours         []codec.Codec
		audio, event uint8
		ok           bool
	}{
		{codecs(t, "PCMA", "opus"), 111, 110, true},
		{codecs(t, "PCMA", "PCMU"), 0, 126, true},
		{codecs(t, "PCMA"), 8, 126, true},
		{nil, 0, 110, false},
	} {
		a, e, ok := d.choose(tt.ours)
		if a.pt != tt.audio || e.pt != tt.event || ok != tt.ok {
			t.Errorf("%v: %v %v %v", tt.ours, a, e, ok)
		}
	}
}

func TestDirections(t *testing.T) {
	for _, d := range []Direction{SendRecv, SendOnly, RecvOnly, Inactive} {
		if direction(d.sends(), d.receives()) != d {
			t.Errorf("%v", d)
		}
		out := withDirection([]byte(chromium), d)
		if got, err := readDescription(out); err != nil || got.direction != d {
			t.Errorf("%v became %v, %v", d, got.direction, err)
		}
	}
	session := strings.Replace(strings.Replace(chromium, "a=sendonly\r\n", "", 1), "a=group", "a=inactive\r\na=group", 1)
	if d, err := readDescription([]byte(session)); err != nil || d.direction != Inactive {
		t.Errorf("direction of the session: %v %v", d.direction, err)
	}
}

func TestWithMid(t *testing.T) {
	out := withMid([]byte(strings.Replace(chromium, "a=mid:0\r\n", "", 1)))
	if d, err := readDescription(out); err != nil || !d.mid || bytes.Count(out, []byte("a=mid:")) != 1 {
		t.Errorf("%v:\n%s", err, out)
	}
}

func FuzzDescription(f *testing.F) {
	f.Add([]byte(chromium))
	f.Add([]byte("v=0\nm=audio 1 RTP/AVP 0\na=inactive"))
	f.Add([]byte("v=0\r\nm=audio"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := readDescription(b)
		if err != nil {
			return
		}
		again, err := readDescription(withDirection(b, d.direction))
		if err != nil {
			t.Fatal(err)
		}
		if again.direction != d.direction && bytes.Contains(b, []byte("a="+d.direction.String())) {
			t.Fatalf("direction %v became %v", d.direction, again.direction)
		}
		if diff := cmp.Diff(d.formats, again.formats, cmp.AllowUnexported(format{})); diff != "" {
			t.Fatal(diff)
		}
		if !d.mid {
			if m, err := readDescription(withMid(b)); err != nil || len(m.formats) != len(d.formats) {
				t.Fatal(err)
			}
		}
	})
}

func TestServerHost(t *testing.T) {
	for url, want := range map[string]string{
		"turn:10.0.0.1":                      "10.0.0.1:3478",
		"turns:gw.example.com?transport=tcp": "gw.example.com:5349 tls",
		"turns:gw.example.com:443":           "gw.example.com:443 tls",
		"stun:[2001:db8::1]":                 "[2001:db8::1]:3478",
		"turn:[2001:db8::1]:99":              "[2001:db8::1]:99",
	} {
		got, secure, err := serverHost(url)
		if secure {
			got += " tls"
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", url, got, err)
		}
	}
	for _, bad := range []string{"", "turn:", "http://x", "gw.example.com"} {
		if _, _, err := serverHost(bad); err == nil {
			t.Errorf("%q taken", bad)
		}
	}
}

func TestMOS(t *testing.T) {
	for _, tt := range []struct {
		codec    string
		delay    time.Duration
		loss     float64
		min, max float64
	}{
		{"PCMA", 50 * time.Millisecond, 0, 4.3, 4.45},
		{"PCMA", 50 * time.Millisecond, 0.05, 3.3, 4.1},
		{"opus", 50 * time.Millisecond, 0.05, 3.7, 4.2},
		{"PCMA", 400 * time.Millisecond, 0, 3, 3.9},
		{"PCMA", time.Second, 0.5, 1, 1.3},
		{"opus", 10 * time.Second, 1, 1, 1},
	} {
		if got := MOS(tt.codec, tt.delay, tt.loss); got < tt.min || got > tt.max {
			t.Errorf("%s %v %v: %.2f, want %v to %v", tt.codec, tt.delay, tt.loss, got, tt.min, tt.max)
		}
	}
}
