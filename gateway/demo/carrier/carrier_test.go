package carrier

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two carriers, of which the first sends its calls to the second.
func pair(t *testing.T, answer func(number string) Behaviour) (from, to *Carrier) {
	t.Helper()
	make := func(ports [2]uint16, gateway netip.AddrPort) *Carrier {
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c, err := New(t.Context(), Options{
			Log: slog.New(slog.DiscardHandler), Conn: conn, RTPPorts: ports, Gateway: gateway, Answer: answer,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		return c
	}
	to = make([2]uint16{12500, 12599}, netip.MustParseAddrPort("127.0.0.1:9"))
	return make([2]uint16{12600, 12699}, to.Addr()), to
}

func line(d time.Duration) media.Source {
	return media.PCMSource("line", make([]int16, int(d.Seconds()*8000)), 8000)
}

func TestCallIsAnsweredAndEnded(t *testing.T) {
	tests := []struct {
		name   string
		caller Behaviour
		called Behaviour
		remote bool // the called person ends it
	}{
		{"the caller hangs up", Behaviour{Lines: []media.Source{line(300 * time.Millisecond)}, Digits: "12", HangsUp: true}, Behaviour{}, false},
		{"the called person hangs up", Behaviour{}, Behaviour{Lines: []media.Source{line(300 * time.Millisecond)}, HangsUp: true, RingFor: 50 * time.Millisecond}, true},
		{"the caller loses patience", Behaviour{Spoken: make(chan struct{}), Patience: 200 * time.Millisecond}, Behaviour{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from, _ := pair(t, func(string) Behaviour { return tt.called })
			res, err := from.Call(t.Context(), Call{Behaviour: tt.caller, From: "59899123456", To: "59825550111"})
			if err != nil || !res.Answered || res.Cause.Remote != tt.remote {
				t.Fatalf("result %+v %v", res, err)
			}
			if res.Lasted < 150*time.Millisecond || res.Quality.Received.Packets == 0 {
				t.Errorf("lasted %v with %d packets", res.Lasted, res.Quality.Received.Packets)
			}
		})
	}
}

func TestCalledPersonRefuses(t *testing.T) {
	from, _ := pair(t, func(number string) Behaviour {
		if number != "59825550111" {
			t.Errorf("number %s", number)
		}
		return Behaviour{Refuse: 486}
	})
	res, err := from.Call(t.Context(), Call{From: "anonymous", To: "59825550111"})
	if err != nil || res.Answered || res.Cause.Code != 486 {
		t.Errorf("result %+v %v", res, err)
	}
}

// Closing ends calls in progress.
func TestCloseEndsCalls(t *testing.T) {
	up := make(chan struct{})
	from, to := pair(t, func(string) Behaviour { close(up); return Behaviour{} })
	done := make(chan Result, 1)
	go func() {
		res, err := from.Call(t.Context(), Call{From: "59899123456", To: "59825550111"})
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	select {
	case <-up:
	case <-time.After(10 * time.Second):
		t.Fatal("the call did not arrive")
	}
	if err := to.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the call did not end")
	}
}
