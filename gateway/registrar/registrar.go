package registrar

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

// Auth tells whose request one is; *sip.Authenticator does.
type Auth interface {
	Check(ctx context.Context, r *sip.Request) (user string, err error)
}

// Options configure a Registrar. Auth and AoR are required.
type Options struct {
	Log  *slog.Logger
	Auth Auth
	// AoR returns the address of record (an extension) that a digest user may
	// register, false if that user may not register at all.
	AoR func(ctx context.Context, user string) (aor string, ok bool)
	// OnChange is told of every change, one at a time, in order, on a goroutine
	// of the registrar. It may call the registrar. No request waits for it.
	OnChange func(Change)
	// MinExpires and MaxExpires bound a binding's life (defaults 60 s, 1 h);
	// DefaultExpires is that of a request which names none (default 10 min).
	MinExpires, MaxExpires, DefaultExpires time.Duration
	// MaxBindings bounds the bindings of one AoR (default 10).
	MaxBindings int
}

// Binding is a phone that can be reached.
type Binding struct {
	AoR        string
	User       string // digest user that registered it
	Contact    sip.URI
	Flow       sip.Flow // where requests to it go
	InstanceID string   // +sip.instance without brackets, empty if unknown
	RegID      int      // of RFC 5626, 0 if none
	Expires    time.Time
	UserAgent  string
}

// Kind says what happened to a binding.
type Kind int

// The kinds.
const (
	Registered   Kind = iota + 1
	Refreshed         // also: moved to another flow
	Unregistered      // by the phone, or its credential ended
	Expired
	FlowLost
	// Resync says that changes were lost because OnChange is too slow: read
	// Bindings again for every AoR of interest. Binding is empty.
	Resync
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case Registered:
		return "registered"
	case Refreshed:
		return "refreshed"
	case Unregistered:
		return "unregistered"
	case Expired:
		return "expired"
	case FlowLost:
		return "flowLost"
	case Resync:
		return "resync"
	}
	return "unknown"
}

// Gone reports whether the binding exists no longer.
func (k Kind) Gone() bool { return k == Unregistered || k == Expired || k == FlowLost }

// Change is what happened to a binding.
type Change struct {
	Kind    Kind
	Binding Binding
	// Moved says of a Refreshed that the flow is another one: dialogs of this
	// phone go on over Binding.Flow.
	Moved bool
}

// Registrar keeps the bindings. Safe for concurrent use.
type Registrar struct {
	o    Options
	log  *slog.Logger
	out  *outbox
	wake chan struct{} // the next expiry is nearer than it was
	done chan struct{}
	wg   sync.WaitGroup
	once sync.Once

	mu    sync.Mutex
	aors  map[string][]*entry
	flows map[sip.Flow]map[*entry]struct{} // connections only
	hosts map[netip.Addr]int               // bindings by source address
	next  expiries
	seq   uint64
}

// entry is a binding with what its next REGISTER is compared with.
type entry struct {
	Binding
	key    string
	callID string
	cseq   uint32
	seq    uint64 // order of last registration
	index  int    // in expiries
}

// New makes a Registrar. Close ends it.
func New(o Options) *Registrar {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnChange == nil {
		o.OnChange = func(Change) {}
	}
	o.MinExpires = cmp.Or(o.MinExpires, time.Minute)
	o.MaxExpires = cmp.Or(o.MaxExpires, time.Hour)
	o.DefaultExpires = cmp.Or(o.DefaultExpires, 10*time.Minute)
	o.MaxBindings = cmp.Or(o.MaxBindings, 10)
	g := &Registrar{
		o: o, log: o.Log.With("component", "registrar"),
		out: newOutbox(o.OnChange), wake: make(chan struct{}, 1), done: make(chan struct{}),
		aors: make(map[string][]*entry), flows: make(map[sip.Flow]map[*entry]struct{}),
		hosts: make(map[netip.Addr]int),
	}
	g.wg.Go(g.expire)
	g.wg.Go(func() { g.out.run(g.done) })
	return g
}

// Close stops the registrar; bindings are forgotten without a Change. Do not
// call it from OnChange.
func (g *Registrar) Close() error {
	g.once.Do(func() { close(g.done) })
	g.wg.Wait()
	return nil
}

// Bindings returns the live bindings of an AoR, the freshest first.
func (g *Registrar) Bindings(aor string) []Binding {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	live := make([]*entry, 0, len(g.aors[aor]))
	for _, e := range g.aors[aor] {
		if now.Before(e.Expires) {
			live = append(live, e)
		}
	}
	slices.SortFunc(live, func(a, b *entry) int { return cmp.Compare(b.seq, a.seq) })
	out := make([]Binding, len(live))
	for i, e := range live {
		out[i] = e.Binding
	}
	return out
}

// Count returns the number of bindings.
func (g *Registrar) Count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.next)
}

// HasHost reports whether a phone is registered from an address.
func (g *Registrar) HasHost(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hosts[a] > 0
}

// Unregister ends all bindings of a digest user: its credential has ended.
func (g *Registrar) Unregister(user string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, list := range g.aors {
		for _, e := range slices.Clone(list) {
			if e.User == user {
				g.removeLocked(e, Unregistered)
			}
		}
	}
}

// FlowClosed ends all bindings that were reached by a connection.
func (g *Registrar) FlowClosed(f sip.Flow) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for e := range g.flows[f] {
		g.removeLocked(e, FlowLost)
	}
}

// removeLocked takes a binding out and tells of it.
func (g *Registrar) removeLocked(e *entry, why Kind) {
	list := g.aors[e.AoR]
	if i := slices.Index(list, e); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(g.aors, e.AoR)
	} else {
		g.aors[e.AoR] = list
	}
	g.unlinkLocked(e)
	g.next.remove(e)
	g.out.post(Change{Kind: why, Binding: e.Binding})
}

func (g *Registrar) linkLocked(e *entry) {
	g.hosts[e.Flow.Remote.Addr()]++
	if !e.Flow.Reliable() {
		return
	}
	set := g.flows[e.Flow]
	if set == nil {
		set = make(map[*entry]struct{}, 1)
		g.flows[e.Flow] = set
	}
	set[e] = struct{}{}
}

func (g *Registrar) unlinkLocked(e *entry) {
	a := e.Flow.Remote.Addr()
	if g.hosts[a]--; g.hosts[a] <= 0 {
		delete(g.hosts, a)
	}
	set := g.flows[e.Flow]
	if delete(set, e); len(set) == 0 {
		delete(g.flows, e.Flow)
	}
}

// expire ends bindings whose time is over; one timer serves all.
func (g *Registrar) expire() {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-g.done:
			return
		case <-g.wake:
		case <-t.C:
		}
		t.Reset(g.expireDue(time.Now()))
	}
}

// expireDue ends what is due and returns the time until the next is.
func (g *Registrar) expireDue(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.next) > 0 {
		e := g.next[0]
		if d := e.Expires.Sub(now); d > 0 {
			return d
		}
		g.removeLocked(e, Expired)
	}
	return time.Hour
}
