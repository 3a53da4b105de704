package sip_test

import (
	"crypto/tls"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cordboard/cordboard/gateway/sip"
)

func cpu() time.Duration {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkIdleWebSocket shows the memory of one registered, idle agent over
// TLS, both ends in this process. The client's end is a bare gorilla
// connection and is measured by itself, so server-KB is an upper bound.
func BenchmarkIdleWebSocket(b *testing.B) {
	const agents = 400
	ep := newEndpoint(b, &handler{})
	url := ep.web(b, true, nil)
	usage := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse + m.StackInuse)
	}
	for b.Loop() {
		before := usage()
		conns := make([]*websocket.Conn, 0, agents)
		for i := range agents {
			d := websocket.Dialer{Subprotocols: []string{"sip"}, ReadBufferSize: 256, WriteBufferSize: 256, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
			ws, resp, err := d.DialContext(b.Context(), url, nil)
			if err != nil {
				b.Fatal(err)
			}
			_ = resp.Body.Close()
			reg := strings.ReplaceAll(options(i), "OPTIONS", "REGISTER")
			if err := ws.WriteMessage(websocket.TextMessage, []byte(reg)); err != nil {
				b.Fatal(err)
			}
			if _, _, err := ws.ReadMessage(); err != nil {
				b.Fatal(err)
			}
			conns = append(conns, ws)
		}
		b.ReportMetric((usage()-before)/agents/1024, "KB/agent-both-ends")
		b.ReportMetric(float64(runtime.NumGoroutine())/agents, "goroutines/agent")
		for _, c := range conns {
			_ = c.Close()
		}
	}
}

// BenchmarkCall is a whole call between two endpoints over UDP: INVITE, 180,
// 200, ACK, BYE. cpu-ms covers both ends: the four legs' worth of work of a
// bridged call.
func BenchmarkCall(b *testing.B) {
	server := newEndpoint(b, &handler{invite: func(d *sip.Dialog) {
		d.Accept(sip.NoEvents{})
		_ = d.Provisional(180, nil)
		_ = d.Answer([]byte(sdpB))
	}})
	addr := server.udp(b)
	client := newEndpoint(b, &handler{})
	client.udp(b)
	start := cpu()
	for b.Loop() {
		rec := newRecorder(b)
		d, err := client.Invite(b.Context(), sip.Invite{URI: mustURI("sip:x@" + addr.String()), From: sip.Address{URI: mustURI("sip:a@b")}, SDP: []byte(sdpA)}, rec)
		if err != nil {
			b.Fatal(err)
		}
		rec.want("progress 180 -", "answered b")
		_ = d.Hangup(sip.Cause{})
		<-d.Done()
	}
	b.ReportMetric(float64(cpu()-start)/1e6/float64(b.N), "cpu-ms/call")
}

// BenchmarkRegister is a REGISTER over an open WebSocket, both ends.
func BenchmarkRegister(b *testing.B) {
	server := newEndpoint(b, &handler{})
	client := newEndpoint(b, &handler{})
	f, err := client.DialWebSocket(b.Context(), server.web(b, true, nil), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err != nil {
		b.Fatal(err)
	}
	start := cpu()
	for i := 0; b.Loop(); i++ {
		r, err := client.Send(b.Context(), sip.Outgoing{Method: "REGISTER", URI: mustURI("sip:h"), From: sip.Address{URI: mustURI("sip:a@h")}, To: sip.Address{URI: mustURI("sip:a@h")}, Flow: &f, CallID: fmt.Sprint("r", i)})
		if err != nil || r.Code != 200 {
			b.Fatal(err, r.Code)
		}
	}
	b.ReportMetric(float64(cpu()-start)/1e6/float64(b.N), "cpu-ms/register")
}
