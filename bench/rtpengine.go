package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// rtpengine is Debian's rtpengine in a process of its own, without its kernel
// module, driven by its ng protocol.
type rtpengine struct {
	cmd    *exec.Cmd
	conn   net.Conn
	cookie int
}

func startRTPEngine(ctx context.Context, dir string) (*rtpengine, error) {
	p, err := ports(ctx, 1)
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(p[0])
	//nolint:gosec,noctx // a fixed program with our own arguments; close ends it
	cmd := exec.Command("rtpengine", "--table=-1", "--interface=127.0.0.1", "--listen-ng="+addr, "--foreground", "--log-stderr",
		"--log-level=3", "--port-min=30000", "--port-max=32000", "--num-threads=2", "--pidfile="+filepath.Join(dir, "rtpengine.pid"))
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("rtpengine: %w", err)
	}
	e := &rtpengine{cmd: cmd}
	if e.conn, err = (&net.Dialer{}).DialContext(ctx, "udp", addr); err != nil {
		e.close()
		return nil, fmt.Errorf("rtpengine: %w", err)
	}
	if err := until(ctx, 10*time.Second, "rtpengine answers", func() bool {
		_, err := e.do(map[string]string{"command": "ping"})
		return err == nil
	}); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *rtpengine) close() {
	if e.conn != nil {
		_ = e.conn.Close()
	}
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait()
}

// do sends one command; all values are strings, and lists of them with commas
// in "flags" and "replace".
func (e *rtpengine) do(cmd map[string]string) (map[string]string, error) {
	e.cookie++
	cookie := strconv.Itoa(e.cookie) + " "
	if err := e.conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return nil, fmt.Errorf("rtpengine: %w", err)
	}
	if _, err := e.conn.Write([]byte(cookie + bencode(cmd))); err != nil {
		return nil, fmt.Errorf("rtpengine: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := e.conn.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("rtpengine: %w", err)
		}
		rest, ok := strings.CutPrefix(string(buf[:n]), cookie)
		if !ok { // of an attempt that timed out
			continue
		}
		out := bdecode(rest)
		if r := out["result"]; r != "ok" && r != "pong" {
			return nil, fmt.Errorf("rtpengine %s: %w: %s", cmd["command"], errRefused, out["error-reason"])
		}
		return out, nil
	}
}

// bencode writes a dictionary of strings; rtpengine wants no order.
func bencode(m map[string]string) string {
	var b strings.Builder
	str := func(s string) { fmt.Fprintf(&b, "%d:%s", len(s), s) }
	b.WriteByte('d')
	for k, v := range m {
		str(k)
		if k == "flags" || k == "replace" {
			b.WriteByte('l')
			for s := range strings.SplitSeq(v, ",") {
				str(s)
			}
			b.WriteByte('e')
			continue
		}
		str(v)
	}
	b.WriteByte('e')
	return b.String()
}

// bdecode reads the strings of a dictionary and skips everything else.
func bdecode(s string) map[string]string {
	out := map[string]string{}
	pos := 1 // after the d
	str := func() (string, bool) {
		colon := strings.IndexByte(s[pos:], ':')
		if colon < 0 {
			return "", false
		}
		n, err := strconv.Atoi(s[pos : pos+colon])
		if err != nil || pos+colon+1+n > len(s) {
			return "", false
		}
		pos += colon + 1 + n
		return s[pos-n : pos], true
	}
	for pos < len(s) && s[pos] != 'e' {
		k, ok := str()
		if !ok || pos >= len(s) || s[pos] < '0' || s[pos] > '9' {
			return out // ping and our commands answer with strings first
		}
		v, ok := str()
		if !ok {
			return out
		}
		out[k] = v
	}
	return out
}

// bridge makes n calls through rtpengine and returns their streams.
func (e *rtpengine) bridge(ctx context.Context, n int, sdes bool) ([]*stream, error) {
	list := make([]*stream, 0, 2*n)
	for i := range n {
		a, err := newStream(ctx, hostTrunk, sdes)
		if err != nil {
			return nil, err
		}
		b, err := newStream(ctx, hostPhones, false)
		if err != nil {
			return nil, err
		}
		list = append(list, a, b)
		call := map[string]string{
			"command": "offer", "call-id": fmt.Sprintf("bench-%p-%d", list, i), "from-tag": "a", "sdp": a.describe(),
			"ICE": "remove", "replace": "origin", "transport-protocol": "RTP/AVP",
		}
		out, err := e.do(call)
		if err != nil {
			return nil, err
		}
		if err := b.connect(out["sdp"]); err != nil {
			return nil, err
		}
		call["command"], call["to-tag"], call["sdp"] = "answer", "b", b.describe()
		if sdes {
			call["transport-protocol"] = "RTP/SAVP"
		}
		if out, err = e.do(call); err != nil {
			return nil, err
		}
		if err := a.connect(out["sdp"]); err != nil {
			return nil, err
		}
	}
	return list, nil
}
