//go:build e2e

package media

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// sippAnswers is a call that sipp answers; its media are echoed (-rtp_echo).
const sippAnswers = `<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario name="answer and echo">
  <recv request="INVITE"/>
  <send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:];tag=echo
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port];transport=[transport]>
Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [media_port] RTP/AVP 8 101
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
]]></send>
  <recv request="ACK" optional="true" timeout="8000" ontimeout="done"/>
  <label id="done"/>
  <recv request="BYE" timeout="20000"/>
  <send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
</scenario>`

// What a WebRTC phone says comes back from sipp's echo: through our trunk leg
// there, and back through it. sipp is a peer that we did not write.
func TestSippEcho(t *testing.T) {
	path, err := exec.LookPath("sipp")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("sipp is not installed")
		}
		t.Skip("sipp is not installed")
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/answer.xml", []byte(sippAnswers), 0o600); err != nil {
		t.Fatal(err)
	}
	sip, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback().AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sip.Close() })
	const port = 45060
	cmd := exec.CommandContext(t.Context(), path, "-sf", dir+"/answer.xml", "-i", "127.0.0.3", "-p", fmt.Sprint(port),
		"-mi", "127.0.0.3", "-mp", "45070", "-rtp_echo", "-m", "1", "-nostdin", "-timeout", "30s")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()

	e := newEngine(t)
	trunk, err := e.NewRTP(RTPOptions{Codecs: []string{codec.PCMA}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	offer, err := trunk.Offer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 3), Port: port}
	invite := fmt.Sprintf("INVITE sip:echo@127.0.0.3:%d SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKmedia\r\nFrom: <sip:us@127.0.0.1>;tag=1\r\n"+
		"To: <sip:echo@127.0.0.3>\r\nCall-ID: media-echo\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContact: <sip:us@%s>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s",
		port, sip.LocalAddr(), sip.LocalAddr(), len(offer), offer)
	answer := ""
	for range 40 { // until sipp listens
		if _, err := sip.WriteToUDP([]byte(invite), to); err != nil {
			t.Fatal(err)
		}
		_ = sip.SetReadDeadline(time.Now().Add(250 * time.Millisecond))
		buf := make([]byte, 4096)
		n, err := sip.Read(buf)
		if err == nil && strings.HasPrefix(string(buf[:n]), "SIP/2.0 200") {
			_, answer, _ = strings.Cut(string(buf[:n]), "\r\n\r\n")
			break
		}
	}
	if answer == "" {
		t.Fatal("sipp did not answer")
	}
	if err := trunk.Answered([]byte(answer)); err != nil {
		t.Fatal(err)
	}
	phone, hb := webrtcPort(t, e)
	b := newWebRTCPeer(t, codec.Opus, freqA)
	if err := Join(trunk, phone); err != nil {
		t.Fatal(err)
	}
	b.take(t, phone)
	hb.wait(t, "connected", 5*time.Second)
	eventually(t, 5*time.Second, "the echo of the phone's tone", func() bool { return b.hears(freqA, 500*time.Millisecond) })
	if q := trunk.Quality(); q.Received.Packets < 20 || q.Received.Lost > 2 {
		t.Errorf("quality %+v", q.Received)
	}
}
