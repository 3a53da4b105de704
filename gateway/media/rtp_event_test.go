package media

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/media/dtmf"
)

// events feeds an outbound stream the telephone events of a far side and
// returns what leaves, event packets only.
func events(t *testing.T, in []rtpPacket, ticks int) []rtpPacket {
	t.Helper()
	var out []rtpPacket
	o := outbound{eventOK: true, eventPT: 101, dest: netip.MustParseAddrPort("127.0.0.1:9")}
	o.setCodecLocked(kindPCMA, 8000, 8)
	o.send = func(b []byte, _ netip.AddrPort) error {
		var p rtpPacket
		if !p.parse(bytes.Clone(b)) {
			t.Fatal("not RTP")
		}
		if p.pt == 101 {
			out = append(out, p)
		}
		return nil
	}
	now := int64(time.Second)
	for i := range in {
		o.event(&in[i], 8000, now)
	}
	for range ticks {
		now += int64(20 * time.Millisecond)
		o.digit(now)
	}
	return out
}

func eventPacket(seq uint16, ts uint32, e dtmf.Event) rtpPacket {
	return rtpPacket{pt: 101, seq: seq, ts: ts, payload: e.Append(nil)}
}

// Chromium beside Opus says the end of a digit three times and nothing before.
func TestDigitWithoutBeginningIsSentInFull(t *testing.T) {
	end := dtmf.Event{Code: 5, End: true, Volume: 10, Duration: 960}
	out := events(t, []rtpPacket{eventPacket(1, 4000, end), eventPacket(2, 4000, end), eventPacket(3, 4000, end)}, 30)
	var digits []byte
	r := dtmf.NewReceiver(8000, func(digit byte, d time.Duration) {
		digits = append(digits, digit)
		if d < 100*time.Millisecond || d > 140*time.Millisecond {
			t.Errorf("the digit takes %v", d)
		}
	})
	ends := 0
	for i, p := range out {
		if p.ts != out[0].ts || p.marker != (i == 0) {
			t.Errorf("packet %d: %+v", i, p)
		}
		e, err := dtmf.ParseEvent(p.payload)
		if err != nil {
			t.Fatal(err)
		}
		if e.End {
			ends++
		} else if ends > 0 {
			t.Error("the key is down again after its end")
		}
		if err := r.Push(p.ts, p.marker, p.payload, time.Now()); err != nil {
			t.Error(err)
		}
	}
	if string(digits) != "5" || ends != 3 || len(out) < 6 {
		t.Fatalf("%d packets, %d ends, digits %q", len(out), ends, digits)
	}
}

func TestEventWithBeginningIsRelayedAsItIs(t *testing.T) {
	down := func(n uint16) dtmf.Event { return dtmf.Event{Code: 7, Volume: 10, Duration: n} }
	end := dtmf.Event{Code: 7, End: true, Volume: 10, Duration: 480}
	out := events(t, []rtpPacket{
		eventPacket(1, 4000, down(160)), eventPacket(2, 4000, down(320)),
		eventPacket(3, 4000, end), eventPacket(4, 4000, end), eventPacket(5, 4000, end),
	}, 30)
	if len(out) != 5 {
		t.Fatalf("%d packets of 5", len(out))
	}
}
