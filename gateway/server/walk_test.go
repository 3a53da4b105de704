package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/agent"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/config"
	"github.com/cordboard/cordboard/gateway/demo/carrier"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/trunk"
	"github.com/cordboard/cordboard/softphone"
	"github.com/cordboard/cordboard/softphone/audio"
)

func TestWalk(t *testing.T) {
	ctx := t.Context()
	c := config.Demo()
	c.Data = t.TempDir()
	base := 20000 + os.Getpid()%20000
	c.SIP.UDP = fmt.Sprintf("127.0.0.1:%d", base)
	c.SIP.TCP = c.SIP.UDP
	c.SIP.TLS = fmt.Sprintf("127.0.0.1:%d", base+1)
	c.SIP.WSS = fmt.Sprintf("127.0.0.1:%d", base+2)
	c.TURN.UDP = fmt.Sprintf("127.0.0.1:%d", base+3)
	c.TURN.TCP = c.TURN.UDP
	c.TURN.TLS = fmt.Sprintf("127.0.0.1:%d", base+4)
	c.Media.WebRTCUDP = fmt.Sprintf("127.0.0.1:%d", base+5)
	c.HTTP.Listen = fmt.Sprintf("http://127.0.0.1:%d", base+6)
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := New(ctx, Options{Config: c, Log: log, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	conn, err := udp(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	car, err := carrier.New(ctx, carrier.Options{Log: log.With("who", "carrier"), Conn: conn, RTPPorts: [2]uint16{20800, 20999}, Gateway: netip.MustParseAddrPort(c.SIP.UDP)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = car.Close() }()

	m, err := s.auth.MakeUser(ctx, nil, auth.UserSpec{Username: "ana", Extension: "2101", Password: "Rio-Negro-58", Roles: []auth.Role{auth.RoleAgent}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.db.PutUser(ctx, m.User); err != nil {
		t.Fatal(err)
	}
	if err := s.auth.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	k := campaign.Defaults()
	k.Name, k.Direction, k.DIDs, k.Schedule, k.Record = "Support<-", campaign.Inbound, []string{"59825550111"}, campaign.Always(), true
	k.Strategy = campaign.LeastRecent
	k.Members = []campaign.Member{{User: "ana"}}
	if err := s.db.PutCampaign(ctx, k); err != nil {
		t.Fatal(err)
	}
	if err := s.db.PutTrunk(ctx, trunk.Trunk{Name: "carrier", Address: car.Addr().String(), Transport: trunk.UDP, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, Codecs: []string{"PCMA", "PCMU"}, SRTP: trunk.SRTPOff}); err != nil {
		t.Fatal(err)
	}
	if err := s.loadState(ctx); err != nil {
		t.Fatal(err)
	}
	in, err := s.auth.SignIn(ctx, auth.SignIn{Username: "ana", Password: "Rio-Negro-58", Remote: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.agents.SignIn(ctx, agent.SignIn{Agent: "ana", Extension: "2101", Session: in.Session.ID, Endpoint: "app"}); err != nil {
		t.Fatal(err)
	}
	events := make(chan softphone.Event, 100)
	phone, err := softphone.New(softphone.Config{
		Log: log.With("who", "phone"), Server: "wss://" + c.SIP.WSS + "/ws", User: in.Session.SIPUser, AoR: "2101", Password: in.SIPPassword,
		TLS: &tls.Config{InsecureSkipVerify: true}, Device: audio.Null{}, OnEvent: func(e softphone.Event) { events <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = phone.Close() }()
	if err := phone.Start(ctx); err != nil {
		t.Fatal(err)
	}
	speech := media.PCMSource("tone", make([]int16, 8000*3), 8000)
	done := make(chan carrier.Result, 1)
	go func() {
		r, err := car.Call(context.WithoutCancel(ctx), carrier.Call{From: "59899123456", To: "59825550111", Behaviour: carrier.Behaviour{Lines: []media.Source{speech}, HangsUp: true}})
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case e := <-events:
			t.Logf("event %T %+v", e, e)
			if in, ok := e.(softphone.Incoming); ok {
				if err := phone.Answer(in.Call); err != nil {
					t.Fatal(err)
				}
			}
		case r := <-done:
			t.Logf("result %+v", r)
			<-time.After(time.Second)
			return
		case <-deadline:
			t.Fatal("too slow")
		}
	}
}
