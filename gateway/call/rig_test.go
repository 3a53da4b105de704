package call

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/media/codec"
	"github.com/cordboard/cordboard/gateway/registrar"
	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// The tones that the two sides of a call speak.
const (
	toneA = 440.0  // customer
	toneB = 1000.0 // agent
)

// rig is a switch with real signalling and media, and nothing else.
type rig struct {
	t       *testing.T
	sw      *Switch
	ep      *sip.Endpoint
	addr    netip.AddrPort
	engine  *media.Engine
	trunks  *trunk.Trunks
	journal *journal
	owner   *owner
	dir     string

	mu       sync.Mutex
	bindings map[string][]registrar.Binding
	endpoint map[string]Target
	invite   func(d *sip.Dialog)
	released int
}

func newRig(t *testing.T, change ...func(*Options)) *rig {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	r := &rig{
		t: t, journal: &journal{}, dir: t.TempDir(), bindings: map[string][]registrar.Binding{}, endpoint: map[string]Target{},
		owner: &owner{rings: make(chan ringEnd, 32), gone: make(chan goneEnd, 8), lost: make(chan string, 8)},
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	webrtc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	host := netip.MustParseAddr("127.0.0.1")
	if r.engine, err = media.New(media.Options{Log: log, Host: host, Bind: host, RTPPorts: [2]uint16{10000, 11999}, WebRTC: webrtc}); err != nil {
		t.Fatal(err)
	}
	sounds, err := media.NewLibrary(media.LibraryOptions{Log: log, Dir: filepath.Join(r.dir, "sounds")})
	if err != nil {
		t.Fatal(err)
	}
	recorder := media.NewRecorder(media.RecorderOptions{Log: log})
	t.Cleanup(func() {
		if n := r.engine.Ports(); n != 0 {
			t.Errorf("%d ports are left", n)
		}
		if err := recorder.Close(); err != nil {
			t.Error(err)
		}
		if err := r.engine.Close(); err != nil {
			t.Error(err)
		}
		_ = webrtc.Close()
	})
	r.ep, r.addr = listen(t, r)
	if r.trunks, err = trunk.New(t.Context(), trunk.Options{Log: log, Endpoint: r.ep}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.trunks.Close() })
	o := Options{
		Log: log, Journal: r.journal, Signalling: r.ep, Locator: r, Carriers: r.trunks, Media: r.engine, Sounds: sounds,
		Recorder: recorder, Recordings: filepath.Join(r.dir, "recordings"), Endpoint: r.endpointOf, ReattachFor: 2 * time.Second,
	}
	for _, fn := range change {
		fn(&o)
	}
	if r.sw, err = New(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.sw.Close(); err != nil {
			t.Error(err)
		}
		eventually(t, "all dialogs end", func() bool { return r.ep.Dialogs() == 0 })
	})
	return r
}

// Invite implements sip.Handler.
func (r *rig) Invite(d *sip.Dialog) {
	r.mu.Lock()
	fn := r.invite
	r.mu.Unlock()
	if fn == nil {
		_ = d.Reject(480, "")
		return
	}
	fn(d)
}

// Request implements sip.Handler.
func (r *rig) Request(q *sip.Request) { _ = q.Respond(200, "OK") }

// FlowClosed implements sip.Handler.
func (r *rig) FlowClosed(sip.Flow) {}

// Bindings implements Locator.
func (r *rig) Bindings(aor string) []registrar.Binding {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.bindings[aor])
}

func (r *rig) endpointOf(agent string) (Target, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.endpoint[agent]
	return t, ok
}

// flow is the way to a peer.
func (r *rig) flow(p *peer) sip.Flow {
	return sip.Flow{Transport: "udp", Local: r.addr, Remote: p.addr}
}

// register makes a peer a phone of an extension.
func (r *rig) register(p *peer, extension, user string) registrar.Binding {
	b := registrar.Binding{
		AoR: extension, User: user, Flow: r.flow(p), InstanceID: p.name,
		Contact: sip.URI{Scheme: "sip", User: user, Host: "127.0.0.1", Port: int(p.addr.Port())},
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bindings[extension] = append([]registrar.Binding{b}, r.bindings[extension]...)
	return b
}

func (r *rig) unregister(extension string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.bindings, extension)
}

// phone is a registered phone of the agent ana, or another.
func (r *rig) phone(agent, extension string) (*peer, Target) {
	p := newPeer(r.t, agent)
	user := extension + "-" + agent
	r.register(p, extension, user)
	t := Target{Agent: agent, Extension: extension, SIPUser: user}
	r.mu.Lock()
	r.endpoint[agent] = t
	r.mu.Unlock()
	return p, t
}

// onInvite says what INVITEs to the gateway do.
func (r *rig) onInvite(fn func(d *sip.Dialog)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.invite = fn
}

const callID = "0193a7e0-0000-7000-8000-000000000001"

// inbound makes INVITEs from a trunk calls of a campaign, answered with music.
func (r *rig) inbound(change ...func(*Inbound)) {
	r.onInvite(func(d *sip.Dialog) {
		in := Inbound{
			Info: Info{
				ID: callID, Direction: event.Inbound, From: "59899123456", FromName: "Marta", To: "59825550111",
				Trunk: "carrier", Campaign: "Support<-", Record: true,
			},
			Codecs: []string{"PCMA", "PCMU"},
			Release: func() {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.released++
			},
		}
		for _, fn := range change {
			fn(&in)
		}
		c, err := r.sw.Inbound(d, in, r.owner)
		if err != nil {
			code, reason := SIPStatus(err)
			_ = d.Reject(code, reason)
			return
		}
		if err := r.sw.Answer(context.Background(), c.ID, defaultMusic); err != nil {
			r.t.Logf("answer: %v", err)
		}
	})
}

// channels is how many trunk channels were given back.
func (r *rig) channels() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.released
}

// waiting is a customer who waits and hears music.
func (r *rig) waiting() *talk {
	r.t.Helper()
	r.inbound()
	c := newPeer(r.t, "customer").invite(r.addr, "59825550111", false)
	c.up()
	c.say(toneA)
	eventually(r.t, "music for the customer", c.hearsMusic)
	return c
}

// ringAgent rings an agent for the waiting customer.
func (r *rig) ringAgent(p *peer, t Target) *talk {
	r.t.Helper()
	if err := r.sw.Ring(r.t.Context(), callID, RingRequest{Target: t, RingFor: 30 * time.Second}); err != nil {
		r.t.Fatal(err)
	}
	a := p.next()
	a.ring()
	return a
}

// talking is a customer and an agent who hear each other.
func (r *rig) talking() (customer, agent *talk, p *peer, t Target) {
	r.t.Helper()
	customer = r.waiting()
	p, t = r.phone("ana", "2101")
	agent = r.ringAgent(p, t)
	agent.accept(toneB)
	r.ringEnds(t.Agent, OutcomeAnswered)
	r.bothHear(customer, agent)
	return customer, agent, p, t
}

func (r *rig) bothHear(customer, agent *talk) {
	r.t.Helper()
	eventually(r.t, "the customer hears the agent", func() bool { return customer.hears(toneB) })
	eventually(r.t, "the agent hears the customer", func() bool { return agent.hears(toneA) })
}

// ringEnds waits for the result of ringing an agent.
func (r *rig) ringEnds(agent string, want Outcome) RingResult {
	r.t.Helper()
	select {
	case e := <-r.owner.rings:
		if e.agent != agent || e.res.Outcome != want {
			r.t.Fatalf("ringing %s ended %+v, want %s of %s", e.agent, e.res, want, agent)
		}
		return e.res
	case <-time.After(soon):
		r.t.Fatalf("no result of ringing %s", agent)
		return RingResult{}
	}
}

// callEnds waits for the end of the call.
func (r *rig) callEnds(by event.By) {
	r.t.Helper()
	select {
	case e := <-r.owner.gone:
		if e.by != by {
			r.t.Fatalf("the call was ended by %s (%s), want %s", e.by, e.cause, by)
		}
	case <-time.After(soon):
		r.t.Fatal("the call did not end")
	}
	eventually(r.t, "no call is left", func() bool { return r.sw.Count() == 0 })
	select {
	case e := <-r.owner.gone:
		r.t.Fatalf("the call ended twice: %+v", e)
	default:
	}
}

// finished checks the last facts: one CallEnded, and after it only what may
// follow; the recording is complete when there is one.
func (r *rig) finished(recorded bool) {
	r.t.Helper()
	eventually(r.t, "CallEnded", func() bool { return count[event.CallEnded](r.journal) == 1 })
	if recorded {
		eventually(r.t, "RecordingFinished", func() bool { return count[event.RecordingFinished](r.journal) == 1 })
	}
	after := false
	for _, p := range r.journal.all() {
		switch p.(type) {
		case event.CallEnded:
			after = true
		case event.CallQuality, event.RecordingFinished, event.Disposition, event.Alarm:
		default:
			if after {
				r.t.Errorf("%s follows the end of the call", p.Kind())
			}
		}
	}
	if n := count[event.CallStarted](r.journal); n != 1 {
		r.t.Errorf("%d CallStarted", n)
	}
	if got := count[event.RecordingStarted](r.journal); (got == 1) != recorded {
		r.t.Errorf("%d recordings, want one: %v", got, recorded)
	}
}

// recording reads the two sides of the call's recording.
func (r *rig) recording() (left, right []int16) {
	r.t.Helper()
	f := facts[event.RecordingFinished](r.journal)
	if len(f) != 1 {
		r.t.Fatalf("recordings: %+v", f)
	}
	b, err := os.ReadFile(filepath.Join(r.dir, "recordings", filepath.FromSlash(f[0].Path)))
	if err != nil {
		r.t.Fatal(err)
	}
	return stereo(r.t, b)
}

type ringEnd struct {
	agent string
	res   RingResult
}

type goneEnd struct {
	by    event.By
	cause string
}

// owner remembers what it is told.
type owner struct {
	rings chan ringEnd
	gone  chan goneEnd
	lost  chan string

	mu   sync.Mutex
	take bool // takes the call of a lost agent back
}

// RingResult implements Owner.
func (o *owner) RingResult(_, agent string, res RingResult) { o.rings <- ringEnd{agent, res} }

// Gone implements Owner.
func (o *owner) Gone(_ string, by event.By, cause string) { o.gone <- goneEnd{by, cause} }

// AgentGone implements Owner.
func (o *owner) AgentGone(_, agent string) bool {
	o.lost <- agent
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.take
}

// journal keeps facts in memory.
type journal struct {
	mu    sync.Mutex
	facts []event.Payload
}

// Append implements event.Journal.
func (j *journal) Append(_ context.Context, _ time.Time, p ...event.Payload) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.facts = append(j.facts, p...)
	return nil
}

func (j *journal) all() []event.Payload {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.facts)
}

// facts are those of one kind.
func facts[T event.Payload](j *journal) []T {
	var out []T
	for _, p := range j.all() {
		if f, ok := p.(T); ok {
			out = append(out, f)
		}
	}
	return out
}

func count[T event.Payload](j *journal) int { return len(facts[T](j)) }

// stereo reads a recording of A-law: the customer left, the agent right.
func stereo(t *testing.T, b []byte) (left, right []int16) {
	t.Helper()
	at := bytes.Index(b, []byte("data"))
	if at < 0 || len(b) < 24 || binary.LittleEndian.Uint16(b[20:]) != 6 || binary.LittleEndian.Uint16(b[22:]) != 2 {
		t.Fatalf("no stereo A-law recording: %.60q", b)
	}
	for i := at + 8; i+1 < len(b); i += 2 {
		left = append(left, codec.ALaw.Linear(b[i]))
		right = append(right, codec.ALaw.Linear(b[i+1]))
	}
	return left, right
}

// parts is how many tenths of a second of a side were a tone, silence, or
// neither.
func parts(pcm []int16, hz float64) (tone, silent, other int) {
	for len(pcm) >= 800 {
		switch p := pcm[:800]; {
		case power(p) < 100:
			silent++
		case share(p, hz) > 0.7:
			tone++
		default:
			other++
		}
		pcm = pcm[800:]
	}
	return tone, silent, other
}
