package registrar

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
)

// retryAfter is what a throttled client is asked to wait, in seconds.
const retryAfter = "30"

// registration is what a REGISTER says.
type registration struct {
	user, aor string
	contacts  []sip.Contact
	expires   string // the Expires header
	callID    string
	cseq      uint32
	flow      sip.Flow
	agent     string
}

// refusal is a final response that changes nothing.
type refusal struct {
	code    int
	reason  string
	headers []sip.Header
}

// Error implements error.
func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.code, r.reason) }

// Handle answers a REGISTER.
func (g *Registrar) Handle(ctx context.Context, r *sip.Request) {
	code, reason, headers := g.handle(ctx, r)
	if err := r.Respond(code, reason, headers...); err != nil {
		g.log.DebugContext(ctx, "register response", "err", err)
	}
}

func (g *Registrar) handle(ctx context.Context, r *sip.Request) (code int, reason string, headers []sip.Header) {
	if r.Method() != "REGISTER" {
		return 405, "Method Not Allowed", []sip.Header{{Name: "Allow", Value: "REGISTER"}}
	}
	user, err := g.o.Auth.Check(ctx, r)
	var challenge *sip.ChallengeError
	switch {
	case errors.As(err, &challenge):
		return challenge.Code, "Unauthorized", challenge.Headers
	case errors.Is(err, sip.ErrThrottled):
		return 503, "Service Unavailable", []sip.Header{{Name: "Retry-After", Value: retryAfter}}
	case err != nil:
		g.log.WarnContext(ctx, "register authentication", "err", err)
		return 500, "Server Internal Error", nil
	}
	aor, ok := g.o.AoR(ctx, user)
	if to := r.To().URI.User; !ok || (to != aor && to != user) {
		g.log.WarnContext(ctx, "registration for somebody else refused", "user", user)
		return 403, "Forbidden", nil
	}
	list, err := g.register(registration{
		user: user, aor: aor, contacts: r.Contacts(), expires: r.Header("Expires"),
		callID: r.CallID(), cseq: r.CSeq(), flow: r.Flow(), agent: r.Header("User-Agent"),
	}, time.Now())
	if no, ok := errors.AsType[*refusal](err); ok {
		return no.code, no.reason, no.headers
	}
	return 200, "OK", list
}

// change is one contact of a request, checked.
type change struct {
	key      string
	contact  sip.Contact
	instance string
	regID    int
	life     time.Duration // 0 removes
	old      *entry
}

// register carries a request out, all of it or nothing (RFC 3261 section
// 10.3), and returns the Contact headers of the answer.
func (g *Registrar) register(r registration, now time.Time) ([]sip.Header, error) {
	changes, star, err := g.check(r)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	list := g.aors[r.aor]
	if star {
		changes = changes[:0]
		for _, e := range list {
			// "All" are those of the one who asks: another device of the same
			// extension has a credential of its own.
			if e.User == r.user {
				changes = append(changes, change{key: e.key, old: e})
			}
		}
	}
	grow := 0
	for i := range changes {
		c := &changes[i]
		if at := slices.IndexFunc(list, func(e *entry) bool { return e.key == c.key && e.User == r.user }); at >= 0 {
			c.old = list[at]
			if c.old.callID == r.callID && r.cseq <= c.old.cseq {
				return nil, &refusal{code: 500, reason: "CSeq Out Of Order"}
			}
		} else if c.life > 0 {
			grow++
		}
	}
	if err := g.roomLocked(r, changes, grow); err != nil {
		return nil, err
	}
	for i := range changes {
		g.applyLocked(r, &changes[i], now)
	}
	g.wakeLocked()
	return g.contactsLocked(r.aor, now), nil
}

// roomLocked makes room for new bindings at the cost of the same user's oldest
// (a phone that changes its contact every time), never of another device's.
func (g *Registrar) roomLocked(r registration, changes []change, grow int) error {
	over := len(g.aors[r.aor]) + grow - g.o.MaxBindings
	if over <= 0 {
		return nil
	}
	var mine []*entry
	for _, e := range g.aors[r.aor] {
		if e.User == r.user && !slices.ContainsFunc(changes, func(c change) bool { return c.old == e }) {
			mine = append(mine, e)
		}
	}
	if len(mine) < over {
		return &refusal{code: 403, reason: "Too Many Bindings"}
	}
	slices.SortFunc(mine, func(a, b *entry) int { return int(int64(a.seq) - int64(b.seq)) })
	for _, e := range mine[:over] {
		g.removeLocked(e, Unregistered)
	}
	return nil
}

func (g *Registrar) applyLocked(r registration, c *change, now time.Time) {
	if c.life == 0 {
		if c.old != nil {
			g.removeLocked(c.old, Unregistered)
		}
		return
	}
	g.seq++
	b := Binding{
		AoR: r.aor, User: r.user, Contact: c.contact.URI, Flow: r.flow,
		InstanceID: c.instance, RegID: c.regID, Expires: now.Add(c.life), UserAgent: r.agent,
	}
	e := c.old
	if e == nil {
		e = &entry{Binding: b, key: c.key, callID: r.callID, cseq: r.cseq, seq: g.seq}
		g.aors[r.aor] = append(g.aors[r.aor], e)
		g.linkLocked(e)
		g.next.add(e)
		g.out.post(Change{Kind: Registered, Binding: b})
		return
	}
	moved := e.Flow != r.flow
	if moved {
		g.unlinkLocked(e)
	}
	e.Binding, e.callID, e.cseq, e.seq = b, r.callID, r.cseq, g.seq
	if moved {
		g.linkLocked(e)
	}
	g.next.fix(e)
	g.out.post(Change{Kind: Refreshed, Binding: b, Moved: moved})
}

// wakeLocked makes the timer look again.
func (g *Registrar) wakeLocked() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// contactsLocked lists the live bindings with the seconds they have left.
func (g *Registrar) contactsLocked(aor string, now time.Time) []sip.Header {
	var out []sip.Header
	for _, e := range g.aors[aor] {
		left := int((e.Expires.Sub(now) + time.Second - 1) / time.Second)
		if left <= 0 {
			continue
		}
		v := "<" + e.Contact.String() + ">;expires=" + strconv.Itoa(left)
		if e.InstanceID != "" {
			v += `;+sip.instance="<` + e.InstanceID + `>"`
		}
		if e.RegID > 0 {
			v += ";reg-id=" + strconv.Itoa(e.RegID)
		}
		out = append(out, sip.Header{Name: "Contact", Value: v})
	}
	return out
}

// check reads the contacts of a request; star says that it was "*".
func (g *Registrar) check(r registration) (changes []change, star bool, err error) {
	if len(r.contacts) > g.o.MaxBindings {
		return nil, false, &refusal{code: 403, reason: "Too Many Bindings"}
	}
	for _, c := range r.contacts {
		life, err := g.life(c.Expires, r.expires)
		if err != nil {
			return nil, false, err
		}
		if c.Star {
			if len(r.contacts) != 1 || strings.TrimSpace(r.expires) != "0" {
				return nil, false, &refusal{code: 400, reason: "Contact * Needs Expires 0 And No Other Contact"}
			}
			return nil, true, nil
		}
		ch, err := checkContact(c)
		if err != nil {
			return nil, false, err
		}
		if slices.ContainsFunc(changes, func(o change) bool { return o.key == ch.key }) {
			return nil, false, &refusal{code: 400, reason: "Contact Given Twice"}
		}
		ch.life = life
		changes = append(changes, ch)
	}
	return changes, false, nil
}

// checkContact reads what tells one binding from another: the instance and
// reg-id of RFC 5626 if given, else the URI (RFC 3261 section 19.1.4).
func checkContact(c sip.Contact) (change, error) {
	u := c.URI
	if (u.Scheme != "sip" && u.Scheme != "sips") || u.Host == "" {
		return change{}, &refusal{code: 400, reason: "Contact Is Not A SIP URI"}
	}
	ch := change{contact: c}
	if v, ok := c.Params.Get("+sip.instance"); ok {
		ch.instance = strings.TrimSuffix(strings.TrimPrefix(strings.Trim(v, `"`), "<"), ">")
		if strings.ContainsAny(ch.instance, "\"<>\r\n") {
			return change{}, &refusal{code: 400, reason: "Bad Instance"}
		}
	}
	if v, ok := c.Params.Get("reg-id"); ok {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < 1 {
			return change{}, &refusal{code: 400, reason: "Bad reg-id"}
		}
		ch.regID = int(n)
	}
	if ch.instance != "" {
		ch.key = "i " + strings.ToLower(ch.instance) + " " + strconv.Itoa(ch.regID)
		return ch, nil
	}
	transport, _ := u.Params.Get("transport")
	ch.key = strings.Join([]string{"u", u.Scheme, u.User, strings.ToLower(u.Host), strconv.Itoa(u.Port), strings.ToLower(transport)}, " ")
	return ch, nil
}

// life is how long a contact is to live: its own parameter, else the header,
// else the default, within the bounds; 0 removes it.
func (g *Registrar) life(param int, header string) (time.Duration, error) {
	life := g.o.DefaultExpires
	switch header = strings.TrimSpace(header); {
	case param >= 0:
		life = time.Duration(min(param, 1<<31)) * time.Second
	case header != "":
		// What cannot be read means the default (RFC 3261 section 10.3, step 7),
		// what is too large is shortened below.
		if n, err := strconv.ParseUint(header, 10, 32); err == nil {
			life = time.Duration(n) * time.Second
		}
	}
	if life > 0 && life < g.o.MinExpires {
		return 0, &refusal{code: 423, reason: "Interval Too Brief", headers: []sip.Header{
			{Name: "Min-Expires", Value: strconv.Itoa(int((g.o.MinExpires + time.Second - 1) / time.Second))},
		}}
	}
	return min(life, g.o.MaxExpires), nil
}
