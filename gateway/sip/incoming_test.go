package sip_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

func TestAnswerIsRepeatedUntilAckThenBye(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec := b.taken()
		if err := d.Answer([]byte(sdpA)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		b.peer.Wait(time.Minute)
		n := 0
		for {
			m := b.peer.Read()
			if m.Method() == "BYE" {
				b.peer.Reply(m, "200 OK", "", nil, "")
				break
			}
			if m.Status() != 200 {
				t.Fatal(m.Start)
			}
			n++
		}
		// 0, 0.5, 1.5, 3.5, 7.5, 11.5 … 31.5 s: RFC 3261 section 13.3.1.4.
		if took := time.Since(start); took != 32*time.Second || n != 11 {
			t.Fatalf("%d answers in %v", n, took)
		}
		rec.want("ended noAck 408 local")
	})
}

func TestAckStopsRepeating(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, _ := b.talking()
		if m, ok := b.peer.Try(time.Minute); ok {
			t.Fatalf("after the ACK came %s", m.Start)
		}
		b.peer.Send(request("BYE", 2, "<sip:alice@10.0.0.1>;tag="+d.LocalTag(), []string{`Reason: Q.850;cause=16`}, ""))
		b.peer.Expect("200")
		rec.want("ended normal 200 remote")
		// The BYE's 200 was lost: the repetition gets it again, a new one 481.
		b.peer.Send(request("BYE", 2, "<sip:alice@10.0.0.1>;tag="+d.LocalTag(), nil, ""))
		b.peer.Expect("200")
		b.peer.Send(request("BYE", 3, "<sip:alice@10.0.0.1>;tag="+d.LocalTag(), nil, ""))
		b.peer.Expect("481")
	})
}

func TestHangupBeforeAckWaitsForIt(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec := b.taken()
		if err := d.Answer([]byte(sdpA)); err != nil {
			t.Fatal(err)
		}
		b.peer.Expect("200")
		_ = d.Hangup(sip.Cause{})
		if m, ok := b.peer.Try(400 * time.Millisecond); ok {
			t.Fatalf("%s before the ACK", m.Start)
		}
		b.peer.Send(request("ACK", 1, "<sip:alice@10.0.0.1>;tag="+d.LocalTag(), nil, ""))
		b.peer.Expect("BYE")
		rec.want("answered -", "ended normal 200 local")
	})
}

func TestCallerCancels(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec := b.taken()
		if err := d.Provisional(180, nil); err != nil {
			t.Fatal(err)
		}
		b.peer.Expect("180")
		cancel := strings.ReplaceAll(request("CANCEL", 1, "<sip:alice@10.0.0.1>", nil, ""), "branch=z9hG4bKcancel1", "branch=z9hG4bKinvite1")
		b.peer.Send(cancel)
		b.peer.Expect("200")
		b.peer.Expect("487")
		b.peer.Send(strings.ReplaceAll(request("ACK", 1, "<sip:alice@10.0.0.1>;tag="+d.LocalTag(), nil, ""), "z9hG4bKack1", "z9hG4bKinvite1"))
		rec.want("ended cancelled 487 remote")
		if err := d.Answer([]byte(sdpA)); err == nil {
			t.Fatal("answered a cancelled call")
		}
		if m, ok := b.peer.Try(10 * time.Second); ok {
			t.Fatalf("487 goes on after the ACK: %s", m.Start)
		}
		b.peer.Send(cancel + "")
	})
}

func TestRingingIsRepeatedEachMinute(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, _ := b.taken()
		_ = d.Provisional(183, []byte(sdpA))
		b.peer.Expect("183")
		if _, ok := b.peer.Try(59 * time.Second); ok {
			t.Fatal("too early")
		}
		if m, ok := b.peer.Try(2 * time.Second); !ok || m.Status() != 183 {
			t.Fatal("no repetition")
		}
		if err := d.Reject(480, ""); err != nil {
			t.Fatal(err)
		}
		b.peer.Expect("480")
	})
}

func TestHandlerThatForgetsGets500(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		b.h.invite = func(*sip.Dialog) {}
		b.peer.Send(invite(1, ""))
		b.peer.Expect("500")
		b.h.request = func(*sip.Request) {}
		b.peer.Send(request("MESSAGE", 1, "<sip:alice@10.0.0.1>", nil, ""))
		b.peer.Expect("500")
	})
}

func TestRequestsOutOfOrder(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		tests := []struct {
			name, msg, want string
		}{
			{"unknown dialog", invite(1, "nobody"), "481"},
			{"bye without dialog", request("BYE", 2, "<sip:alice@10.0.0.1>", nil, ""), "481"},
			{"unknown extension", invite(3, "", "Require: 100rel, foo"), "420"},
			{"unknown method", request("FOO", 4, "<sip:alice@10.0.0.1>", nil, ""), "501"},
			{"no hops left", strings.Replace(invite(5, ""), "Max-Forwards: 70", "Max-Forwards: 0", 1), "483"},
			{"unknown scheme", strings.Replace(invite(6, ""), "INVITE sip:alice@10.0.0.1", "INVITE foo:bar", 1), "416"},
			{"not sdp", request("INVITE", 7, "<sip:alice@10.0.0.1>", []string{"Content-Type: text/plain"}, "hello"), "415"},
			{"cancel of nothing", request("CANCEL", 8, "<sip:alice@10.0.0.1>", nil, ""), "481"},
			{"session too short", invite(9, "", "Supported: timer", "Session-Expires: 30"), "422"},
			{"options", request("OPTIONS", 10, "<sip:alice@10.0.0.1>", nil, ""), "200"},
		}
		for _, tt := range tests {
			b.peer.Send(tt.msg)
			m := b.peer.Read()
			for m.Status() == 100 {
				m = b.peer.Read()
			}
			if !strings.HasPrefix(m.Start, "SIP/2.0 "+tt.want) {
				t.Errorf("%s: %s", tt.name, m.Start)
			}
			if m.Param("To", "tag") == "" {
				t.Errorf("%s: no To tag", tt.name)
			}
			if tt.want == "420" && m.Get("Unsupported") != "100rel, foo" {
				t.Error(m)
			}
			if strings.HasPrefix(tt.msg, "INVITE") { // end the transaction
				ack := strings.Replace(tt.msg, "INVITE", "ACK", 1)
				b.peer.Send(strings.Replace(ack, " INVITE", " ACK", 1))
				synctest.Wait()
			}
		}
	})
}

func TestMergedRequestIsALoop(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		b.taken()
		b.peer.Send(strings.Replace(invite(1, ""), "z9hG4bKinvite1", "z9hG4bKotherway", 1))
		b.peer.Expect("482")
	})
}

func TestPeerOffersTwiceAtOnce(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		d, rec, _ := b.talking()
		hold := make(chan struct{})
		rec.offer = func([]byte) ([]byte, int) { <-hold; return []byte(sdpA), 200 }
		b.peer.Send(invite(2, d.LocalTag()))
		b.peer.Send(invite(3, d.LocalTag()))
		b.peer.Expect("500")
		close(hold)
		b.peer.Expect("200")
		rec.want("offer b")
		// Its ACK never comes: the dialog ends (RFC 3261 section 14.2).
		b.peer.Wait(time.Minute)
		b.peer.Expect("BYE")
		rec.want("ended noAck 408 local")
	})
}

func TestRefusedOfferKeepsTheCall(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, _ := b.talking()
		rec.offer = func([]byte) ([]byte, int) { return nil, 488 }
		b.peer.Send(invite(2, d.LocalTag()))
		b.peer.Expect("488")
		rec.want("offer b")
		if d.State() != sip.StateConfirmed {
			t.Fatal(d.State())
		}
	})
}

func TestSessionTimerPeerRefreshes(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, ok := b.talking("Supported: timer", "Session-Expires: 90") // JsSIP's default
		if ok.Get("Session-Expires") != "90;refresher=uac" || ok.Get("Require") != "timer" {
			t.Fatal(ok)
		}
		time.Sleep(45 * time.Second)
		b.peer.Send(request("UPDATE", 2, "<sip:alice@10.0.0.1>;tag="+d.LocalTag(), []string{"Supported: timer", "Session-Expires: 90;refresher=uac"}, ""))
		if m := b.peer.Expect("200"); m.Get("Session-Expires") != "90;refresher=uac" {
			t.Fatal(m)
		}
		start := time.Now()
		b.peer.Wait(time.Minute * 2)
		b.peer.Expect("BYE") // no further refresh
		if after := time.Since(start); after != 60*time.Second {
			t.Fatal(after) // 90 s less a third
		}
		rec.want("ended sessionTimer 408 local")
	})
}

func TestSessionTimerWeRefreshByUpdate(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, inv := b.call(sip.Invite{SessionExpires: 100 * time.Second})
		if inv.Get("Session-Expires") != "100" || inv.Get("Min-SE") != "90" || inv.Get("Supported") != "timer" {
			t.Fatal(inv)
		}
		// The peer wants longer intervals (RFC 4028 section 7.3).
		b.peer.Reply(inv, "422 Session Interval Too Small", "x", []string{"Min-SE: 1800"}, "")
		inv = b.peer.Expect("INVITE")
		if inv.Get("Session-Expires") != "1800" || inv.Get("Min-SE") != "1800" {
			t.Fatal(inv)
		}
		b.peer.Reply(inv, "200 OK", "peer", []string{"Contact: <sip:bob@10.0.0.2:5060>", "Allow: INVITE, UPDATE", "Session-Expires: 1800;refresher=uac", "Content-Type: application/sdp"}, sdpB)
		b.peer.Expect("ACK")
		rec.want("answered b")
		b.peer.Wait(time.Hour)
		start := time.Now()
		for range 3 {
			up := b.peer.Expect("UPDATE")
			if up.Get("Session-Expires") != "1800;refresher=uac" {
				t.Fatal(up)
			}
			b.peer.Reply(up, "200 OK", "", []string{"Session-Expires: 1800;refresher=uac", "Contact: <sip:bob@10.0.0.2:5060>"}, "")
		}
		if took := time.Since(start); took != 45*time.Minute {
			t.Fatal(took)
		}
		// Now it has vanished.
		b.net.Drop(func(_, to netip.AddrPort, _ []byte) bool { return to.Addr() == mustAddr("10.0.0.2:1").Addr() })
		rec.want("ended sessionTimer 408 local")
		_ = d
	})
}

func TestSessionTimerWeRefreshByReinvite(t *testing.T) {
	inBubble(t, sip.Options{SessionExpires: 30 * time.Minute}, func(b *bubble) {
		t := b.t
		_, rec, ok := b.talking("Allow: INVITE, BYE") // no timer, no UPDATE
		if ok.Get("Session-Expires") != "" {
			t.Fatal("told a peer that does not know it")
		}
		b.peer.Wait(time.Hour)
		re := b.peer.Expect("INVITE")
		if first([]byte(re.Body)) != "a" {
			t.Fatal("refresh without the SDP")
		}
		b.peer.Reply(re, "200 OK", "", []string{"Contact: <sip:bob@10.0.0.2:5060>", "Content-Type: application/sdp"}, sdpB)
		b.peer.Expect("ACK")
		b.peer.Reply(b.peer.Expect("INVITE"), "481 Gone", "", nil, "")
		rec.want("ended rejected 481 remote")
	})
}
