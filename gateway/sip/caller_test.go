package sip_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

func TestCallRingsForMinutesWithManyProvisionals(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, inv := b.call(sip.Invite{})
		for i := range 300 {
			b.peer.Reply(inv, "180 Ringing", "peer", []string{"Contact: <sip:bob@10.0.0.2>"}, "")
			time.Sleep(2 * time.Second)
			rec.want("progress 180 -")
			if i == 0 && d.State() != sip.StateRinging {
				t.Fatal("not ringing")
			}
		}
		b.peer.Reply(inv, "200 OK", "peer", []string{"Contact: <sip:bob@10.0.0.2:5060>", "Content-Type: application/sdp"}, sdpB)
		ack := b.peer.Expect("ACK")
		if ack.Get("CSeq") != "1 ACK" || ack.Param("To", "tag") != "peer" {
			t.Fatalf("bad ACK: %v", ack)
		}
		rec.want("answered b")
		if d.State() != sip.StateConfirmed {
			t.Fatal(d.State())
		}
		if err := d.Hangup(sip.Cause{Q850: 16, Text: "bye"}); err != nil {
			t.Fatal(err)
		}
		bye := b.peer.Expect("BYE")
		if bye.Get("Reason") != `Q.850;cause=16;text="bye"` || bye.Get("CSeq") != "2 BYE" {
			t.Fatalf("bad BYE: %v", bye)
		}
		b.peer.Reply(bye, "200 OK", "", nil, "")
		rec.want("ended normal 200 local")
		<-d.Done()
		if b.ep.Dialogs() != 0 {
			t.Fatal("dialog left behind")
		}
	})
}

func TestCancelBeforeProvisionalWaitsForIt(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, inv := b.call(sip.Invite{})
		if err := d.Hangup(sip.Cause{}); err != nil {
			t.Fatal(err)
		}
		if m, ok := b.peer.Try(300 * time.Millisecond); ok {
			t.Fatalf("sent %s before a 1xx", m.Start)
		}
		b.peer.Reply(inv, "100 Trying", "", nil, "")
		cancel := b.peer.Expect("CANCEL")
		if cancel.Param("Via", "branch") != inv.Param("Via", "branch") {
			t.Fatal("CANCEL has another branch")
		}
		b.peer.Reply(cancel, "200 OK", "", nil, "")
		b.peer.Reply(inv, "487 Request Terminated", "peer", nil, "")
		b.peer.Expect("ACK")
		rec.want("ended cancelled 487 local")
	})
}

func TestCancelWithoutAnyResponseEnds(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, _ := b.call(sip.Invite{})
		start := time.Now()
		_ = d.Hangup(sip.Cause{})
		rec.want("ended cancelled 487 local")
		if took := time.Since(start); took > 33*time.Second {
			t.Fatal(took)
		}
		_ = d
	})
}

func TestCancelWhileRinging(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, inv := b.call(sip.Invite{})
		b.peer.Reply(inv, "180 Ringing", "peer", nil, "")
		rec.want("progress 180 -")
		_ = d.Hangup(sip.Cause{Code: 200, Text: "Call completed elsewhere"})
		cancel := b.peer.Expect("CANCEL")
		if !strings.Contains(cancel.Get("Reason"), "SIP;cause=200") {
			t.Fatal(cancel.Get("Reason"))
		}
		b.peer.Reply(cancel, "200 OK", "", nil, "")
		// The peer never ends the INVITE: given up after 64*T1.
		rec.want("ended cancelled 200 local")
	})
}

func TestAnswerCrossesCancel(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		d, rec, inv := b.call(sip.Invite{})
		b.peer.Reply(inv, "180 Ringing", "peer", nil, "")
		rec.want("progress 180 -")
		_ = d.Hangup(sip.Cause{})
		b.peer.Expect("CANCEL")
		b.peer.Reply(inv, "200 OK", "peer", []string{"Contact: <sip:bob@10.0.0.2>", "Content-Type: application/sdp"}, sdpB)
		b.peer.Expect("ACK")
		b.peer.Reply(b.peer.Expect("BYE"), "200 OK", "", nil, "")
		rec.want("ended cancelled 487 local")
	})
}

func TestRepeatedAndForkedAnswers(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, inv := b.answered(sip.Invite{})
		for range 3 { // our ACK was lost
			b.peer.Reply(inv, "200 OK", "peer", []string{"Contact: <sip:bob@10.0.0.2:5060>", "Content-Type: application/sdp"}, sdpB)
			if ack := b.peer.Read(); ack.Method() != "ACK" {
				t.Fatal(ack.Start)
			}
		}
		// Another phone answered, too.
		b.peer.Reply(inv, "200 OK", "fork", []string{"Contact: <sip:bob2@10.0.0.2:5060>", "Content-Type: application/sdp"}, sdpB)
		if ack := b.peer.Read(); ack.Method() != "ACK" || ack.Param("To", "tag") != "fork" || ack.URI() != "sip:bob2@10.0.0.2:5060" {
			t.Fatal(ack)
		}
		bye := b.peer.Expect("BYE")
		if bye.Param("To", "tag") != "fork" {
			t.Fatal(bye)
		}
		b.peer.Reply(bye, "200 OK", "", nil, "")
		rec.none()
		if d.State() != sip.StateConfirmed {
			t.Fatal("the first call suffered")
		}
	})
}

func TestRejectedCall(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		_, rec, inv := b.call(sip.Invite{})
		for range 4 { // our ACK is lost: it is repeated each time, at once
			b.peer.Reply(inv, "486 Busy Here", "peer", []string{"Reason: Q.850;cause=17"}, "")
			if ack := b.peer.Read(); ack.Method() != "ACK" || ack.Param("To", "tag") != "peer" {
				t.Fatal(ack)
			}
		}
		rec.want("ended rejected 486 remote")
	})
}

func TestCallWithoutAnyAnswerTimesOut(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		_, rec, _ := b.call(sip.Invite{})
		rec.want("ended timeout 408 local")
	})
}

func TestCallAnswersChallenge(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		_, rec, inv := b.call(sip.Invite{Credentials: &sip.Credentials{Username: "u", Password: "p"}})
		b.peer.Reply(inv, "407 Proxy Authentication Required", "x", []string{`Proxy-Authenticate: Digest realm="r", nonce="n", qop="auth", algorithm=MD5`}, "")
		again := b.peer.Expect("INVITE")
		if again.Get("CSeq") != "2 INVITE" || again.Param("To", "tag") != "" || !strings.Contains(again.Get("Proxy-Authorization"), `nc=00000001`) {
			t.Fatal(again)
		}
		// Wrong password: no third try.
		b.peer.Reply(again, "407 Proxy Authentication Required", "x", []string{`Proxy-Authenticate: Digest realm="r", nonce="n2", qop="auth"`}, "")
		rec.want("ended rejected 407 remote")
	})
}

func TestRemoteTargetRefresh(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, _ := b.answered(sip.Invite{})
		moved := b.newPeer("10.0.0.2:5070")
		re := request("INVITE", 7, "<sip:alice@10.0.0.1>;tag="+d.LocalTag(), []string{"Content-Type: application/sdp"}, sdpB)
		re = strings.Replace(re, "Call-ID: c1@peer", "Call-ID: "+d.CallID(), 1)
		re = strings.Replace(re, "Contact: <sip:bob@10.0.0.2:5060>", "Contact: <sip:moved@10.0.0.2:5070>", 1)
		b.peer.Send(re)
		b.peer.Expect("200")
		rec.want("offer b")
		ack := strings.Replace(request("ACK", 7, "<sip:alice@10.0.0.1>;tag="+d.LocalTag(), nil, ""), "Call-ID: c1@peer", "Call-ID: "+d.CallID(), 1)
		b.peer.Send(ack)
		synctest.Wait()
		_ = d.Hangup(sip.Cause{})
		if bye := moved.Expect("BYE"); bye.URI() != "sip:moved@10.0.0.2:5070" {
			t.Fatal(bye.URI())
		}
	})
}

func TestReinviteAndGlare(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, _ := b.answered(sip.Invite{})
		type result struct {
			sdp []byte
			err error
		}
		res := make(chan result, 1)
		start := time.Now()
		go func() {
			sdp, err := d.Reinvite(t.Context(), []byte(sdpA))
			res <- result{sdp, err}
		}()
		re := b.peer.Expect("INVITE")
		// Theirs crosses ours.
		theirs := strings.Replace(invite(5, d.LocalTag()), "c1@peer", d.CallID(), 1)
		b.peer.Send(theirs)
		b.peer.Expect("491")
		b.peer.Reply(re, "491 Request Pending", "", nil, "")
		again := b.peer.Expect("INVITE")
		if wait := time.Since(start); wait < 2100*time.Millisecond || wait > 4100*time.Millisecond {
			t.Fatalf("retried after %v", wait) // RFC 3261 section 14.1: we own the Call-ID
		}
		b.peer.Reply(again, "200 OK", "", []string{"Contact: <sip:bob@10.0.0.2:5060>", "Content-Type: application/sdp"}, sdpB)
		b.peer.Expect("ACK")
		if r := <-res; r.err != nil || first(r.sdp) != "b" {
			t.Fatal(r)
		}
		rec.none()

		go func() {
			_, err := d.Reinvite(t.Context(), []byte(sdpA))
			res <- result{nil, err}
		}()
		b.peer.Reply(b.peer.Expect("INVITE"), "488 Not Acceptable Here", "", nil, "")
		var se *sip.StatusError
		if r := <-res; !errors.As(r.err, &se) || se.Code != 488 {
			t.Fatal(r.err)
		}
		if d.State() != sip.StateConfirmed {
			t.Fatal("a refused re-INVITE must not end the call")
		}
	})
}

func TestLostByeIsRepeated(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, _ := b.answered(sip.Invite{})
		lost := 0
		b.net.Drop(func(_, _ netip.AddrPort, m []byte) bool {
			if strings.HasPrefix(string(m), "BYE") && lost < 3 {
				lost++
				return true
			}
			return false
		})
		_ = d.Hangup(sip.Cause{})
		rec.want("ended normal 200 local")
		b.peer.Reply(b.peer.Expect("BYE"), "200 OK", "", nil, "")
		if lost != 3 {
			t.Fatal("BYE was not lost")
		}
	})
}

func TestOffersAndRequestsOfThePeer(t *testing.T) {
	inBubble(t, sip.Options{}, func(b *bubble) {
		t := b.t
		d, rec, _ := b.answered(sip.Invite{})
		send := func(method string, seq int, extra []string, body string) {
			b.peer.Send(strings.Replace(request(method, seq, "<sip:alice@10.0.0.1>;tag="+d.LocalTag(), extra, body), "c1@peer", d.CallID(), 1))
		}
		sdp := []string{"Content-Type: application/sdp"}
		send("OPTIONS", 10, nil, "")
		if ok := b.peer.Expect("200"); !strings.Contains(ok.Get("Allow"), "UPDATE") {
			t.Fatal(ok)
		}
		send("UPDATE", 11, sdp, sdpB)
		if ok := b.peer.Expect("200"); first([]byte(ok.Body)) != "a" {
			t.Fatal(ok)
		}
		rec.want("offer b")
		send("INVITE", 12, nil, "") // no offer: we make one, the ACK answers
		b.peer.Expect("200")
		rec.want("offer -")
		send("ACK", 12, sdp, sdpB)
		rec.want("answered b")
		send("INFO", 13, []string{"Content-Type: application/dtmf-relay"}, "Signal=5")
		b.peer.Expect("200")
		rec.want("info application/dtmf-relay Signal=5")
		send("REFER", 14, []string{"Refer-To: <sip:carol@10.0.0.3>"}, "")
		b.peer.Expect("202")
		rec.want("request REFER <sip:carol@10.0.0.3>")
		send("MESSAGE", 13, nil, "") // its CSeq is too low
		b.peer.Expect("500")
	})
}
