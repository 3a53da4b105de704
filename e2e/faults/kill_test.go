//go:build e2e && linux

package faults

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to count the rows ourselves

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/event"
)

// kills is how often the gateway is killed (issue: 20 times).
const kills = 20

// settled is how long before a kill a client must know of something for it to
// count as known. The call layer waits 100 ms at most for the journal, and the
// journal's sync to a busy disk has been seen to take a second.
const settled = 1500 * time.Millisecond

// witness is what one client saw of its call.
type witness struct {
	from, guid string
	at         time.Time // when it was told
	run        int
}

// load is the traffic on a rig and what its clients saw.
type load struct {
	t     *testing.T
	r     *rig
	line  *station
	desks []*desk
	wg    sync.WaitGroup
	run   atomic.Int32
	calls atomic.Int64

	mu       sync.Mutex
	answered []witness // customers whose INVITE was answered
	joined   []witness // agents whose answer was acknowledged
}

func (l *load) see(to *[]witness, w witness) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*to = append(*to, w)
}

// customers call until ctx ends, perSecond of them; every tenth has a voice.
func (l *load) customers(ctx context.Context, perSecond int, voices []*voice) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		n := l.calls.Add(1)
		var v *voice
		if n%10 == 0 && len(voices) > 0 {
			v = voices[int(n/10)%len(voices)]
		}
		l.wg.Go(func() { l.customer(ctx, fmt.Sprintf("598990%05d", n), v) })
	}
}

// customer waits for an agent for a while and hangs up at some moment.
func (l *load) customer(ctx context.Context, from string, v *voice) {
	p, err := l.line.call(l.r.UDP, from, did, v)
	if err != nil {
		return
	}
	stay := time.Duration(300+rand.IntN(1500)) * time.Millisecond
	if rand.IntN(6) == 0 {
		stay = time.Duration(rand.IntN(200)) * time.Millisecond
	}
	leave := time.NewTimer(stay)
	defer leave.Stop()
	answered := p.answered
	for {
		select {
		case <-answered:
			l.see(&l.answered, witness{from: from, at: p.upAt, run: int(l.run.Load())})
			answered = nil
			continue
		case <-p.ended:
			return
		case <-leave.C:
		case <-ctx.Done(): // the gateway is dead
		}
		p.hangUp()
		return
	}
}

// agent takes the calls that ring, in its own way, until ctx ends.
func (l *load) agent(ctx context.Context, a *desk) {
	for {
		select {
		case g := <-a.ringing:
			l.wg.Go(func() { l.take(ctx, g) })
		case <-ctx.Done():
			return
		}
	}
}

func (l *load) take(ctx context.Context, g *ringing) {
	switch rand.IntN(12) {
	case 0:
		_ = g.d.Reject(486, "")
		return
	case 1:
		return // lets it ring
	}
	nap(ctx, time.Duration(rand.IntN(60))*time.Millisecond)
	p, err := g.answer(nil)
	if err != nil {
		return
	}
	select {
	case <-p.answered:
		l.see(&l.joined, witness{guid: g.guid, at: p.upAt, run: int(l.run.Load())})
	case <-p.ended:
		return
	case <-ctx.Done():
		return
	}
	if rand.IntN(2) == 0 {
		nap(ctx, time.Duration(50+rand.IntN(500))*time.Millisecond)
		p.hangUp()
		return
	}
	select {
	case <-p.ended:
	case <-ctx.Done():
		p.hangUp()
	}
}

func nap(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// TestKilledUnderLoad kills the gateway again and again while customers call,
// wait, ring, talk and hang up, and counts afterwards: nothing lost, nothing
// double (LOG-009 to LOG-017, LOG-034; facts first).
func TestKilledUnderLoad(t *testing.T) { // alone: what was known before a kill is a question of time
	const agents = 8
	r := newRig(t, agents, func(c *company) { c.record, c.ring = true, 2 })
	facts := r.Facts(t)
	l := &load{t: t, r: r, line: newStation(t, "127.0.0.1", nil)}
	for i := 1; i <= agents; i++ {
		l.desks = append(l.desks, r.newDesk(t, i))
	}
	voices := []*voice{newVoice(t, 440), newVoice(t, 500), newVoice(t, 600)}

	killed := make([]time.Time, 0, kills+1)
	for n := range kills {
		l.run.Store(int32(n))
		ctx, cancel := context.WithCancel(t.Context())
		for _, a := range l.desks {
			l.wg.Go(func() { l.agent(ctx, a) })
		}
		l.wg.Go(func() { l.customers(ctx, 25, voices) })
		nap(ctx, time.Duration(700+rand.IntN(900))*time.Millisecond)
		r.Kill(t)
		killed = append(killed, time.Now())
		cancel()
		l.wg.Wait()
		r.Restart(t)
		l.back(n)
	}
	l.quiet(facts)
	last := facts.Last()
	if code := r.Stop(t); code != 0 {
		t.Errorf("the gateway ended with %d", code)
	}
	c := count(t, r)
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%d calls placed, %d answered, %d joined, %d entries, %d connected, %d CDRs, %d recordings, %d facts",
		l.calls.Load(), len(l.answered), len(l.joined), len(c.entered), len(c.connects), c.cdrs, c.recordings, c.facts)
	if len(c.entered) < kills*5 || len(c.connects) < kills {
		t.Errorf("too little happened for this test to prove anything")
	}
	l.known(c, killed)
	l.sawOnlyFacts(c, facts.All(), last)
}

// back brings the phones back after a restart and looks whether the agents are
// still signed in, with the sessions of before.
func (l *load) back(n int) {
	l.t.Helper()
	for _, a := range l.desks {
		for len(a.ringing) > 0 {
			<-a.ringing
		}
		a.register(l.t)
		if status, p := a.client.Try(l.t, http.MethodGet, "/sessions/current", nil, nil); p != nil {
			l.t.Fatalf("kill %d: the session of %s is gone: %d %v", n+1, user(a.n), status, p)
		}
	}
	admin := l.r.Admin(l.t)
	for _, a := range l.desks {
		v := admin.AgentIs(l.t, user(a.n), "available")
		if !v.SignedIn || v.Endpoint != "desk" || !v.Reachable {
			l.t.Fatalf("kill %d: %s came back as %+v", n+1, user(a.n), v)
		}
	}
}

// quiet waits until the tables show everything.
func (l *load) quiet(facts *harness.Facts) {
	l.t.Helper()
	harness.Until(l.t, harness.Patience, "the gateway is quiet and the tables are complete", func() bool {
		m := l.r.metrics()
		return m["cordboard_calls"] == 0 && m["cordboard_queue_entries"] == 0 && m["cordboard_log_tables_behind"] == 0 && m["cordboard_facts_waiting"] == 0
	})
	for name, v := range l.r.metrics() {
		if strings.HasPrefix(name, "cordboard_log_tables_poisoned") && v > 0 {
			l.t.Errorf("%s is %v", name, v)
		}
	}
	_ = facts
}

// known: what a client knew for a while before the kill is in the tables.
func (l *load) known(c *counted, killed []time.Time) {
	l.t.Helper()
	early := 0
	for _, w := range l.joined {
		if c.connects[w.guid] {
			continue
		}
		if known := killed[w.run].Sub(w.at); known > settled {
			l.t.Errorf("the agent talked in call %s for %v before kill %d, and there is no CONNECT", w.guid, known, w.run+1)
		} else {
			early++
			l.t.Logf("call %s was joined %v before kill %d and has no CONNECT", w.guid, known, w.run+1)
		}
	}
	for _, w := range l.answered {
		if c.callers[w.from] {
			continue
		}
		if known := killed[w.run].Sub(w.at); known > settled {
			l.t.Errorf("the customer %s was answered %v before kill %d, and there is no ENTERQUEUE", w.from, known, w.run+1)
		} else {
			early++
		}
	}
	if early > kills {
		l.t.Errorf("%d things that a client knew just before a kill are in no table", early)
	}
}

// sawOnlyFacts: what a viewer was shown is in the journal, as it was shown.
func (l *load) sawOnlyFacts(c *counted, seen []apiEvent, last uint64) {
	l.t.Helper()
	if last == 0 || len(seen) < kills*10 {
		l.t.Errorf("the viewer saw %d events only", len(seen))
	}
	for _, e := range seen {
		if strings.HasPrefix(e.Type, "stream.") {
			continue
		}
		if f, ok := c.journal[e.Seq]; !ok || string(f.Type) != e.Type || string(f.Data) != string(e.Data) {
			l.t.Errorf("a viewer saw fact %d %s, the journal has %v", e.Seq, e.Type, f.Type)
			return
		}
	}
}

// counted is what a stopped gateway left on disk.
type counted struct {
	entered    map[string]int
	connects   map[string]bool
	callers    map[string]bool
	journal    map[uint64]event.Fact
	facts      int
	cdrs       int
	recordings int
}

// count reads database, journal and recordings of a gateway that has stopped,
// and checks that they agree.
func count(t *testing.T, r *rig) *counted {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(r.Dir, "cordboard.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	c := &counted{entered: map[string]int{}, connects: map[string]bool{}, callers: map[string]bool{}, journal: map[uint64]event.Fact{}}
	countQueueLog(t, db, c)
	countCDR(t, db, c)
	countRecordings(t, r, db, c)
	countFacts(t, r, db, c)
	return c
}

// rowsOf reads a query into strings.
func rowsOf(t *testing.T, db *sql.DB, query string) [][]string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	cols, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for rows.Next() {
		vals := make([]sql.NullString, len(cols))
		ptrs := make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		if err := rows.Scan(ptrs...); err != nil {
			t.Fatal(err)
		}
		row := make([]string, len(cols))
		for i, v := range vals {
			row[i] = v.String
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func countQueueLog(t *testing.T, db *sql.DB, c *counted) {
	t.Helper()
	ends := map[string][]string{}
	connects := map[string]int{}
	for _, row := range rowsOf(t, db, "SELECT callid, event, number FROM queue_log ORDER BY id") {
		guid, what := row[0], row[1]
		switch what {
		case "ENTERQUEUE":
			c.entered[guid]++
			c.callers[row[2]] = true
		case "CONNECT":
			connects[guid]++
			c.connects[guid] = true
		case "COMPLETEAGENT", "COMPLETECALLER", "ABANDON", "EXITWITHTIMEOUT", "EXITEMPTY", "EXITWITHKEY":
			ends[guid] = append(ends[guid], what)
		}
	}
	for guid, n := range c.entered {
		if n != 1 {
			t.Errorf("call %s has %d ENTERQUEUE", guid, n)
		}
		if len(ends[guid]) != 1 {
			t.Errorf("call %s has the ends %v, want one", guid, ends[guid])
			continue
		}
		want := 0
		if strings.HasPrefix(ends[guid][0], "COMPLETE") {
			want = 1
		}
		if connects[guid] != want {
			t.Errorf("call %s ended by %s with %d CONNECT", guid, ends[guid][0], connects[guid])
		}
	}
	for guid := range ends {
		if c.entered[guid] == 0 {
			t.Errorf("call %s ended but never entered", guid)
		}
	}
	for _, row := range rowsOf(t, db, "SELECT seq, event, count(*) FROM queue_log GROUP BY seq, event, agent HAVING count(*) > 1") {
		t.Errorf("queue log: fact %s made %s rows of %s", row[0], row[2], row[1])
	}
}

func countCDR(t *testing.T, db *sql.DB, c *counted) {
	t.Helper()
	byCall := map[string]int{}
	seen := map[string]bool{}
	for _, row := range rowsOf(t, db, "SELECT guid, legid, disposition, answered_at FROM cdr ORDER BY id") {
		c.cdrs++
		byCall[row[0]]++
		key := row[0] + " " + row[1]
		if seen[key] {
			t.Errorf("CDR of call and leg %s is there twice", key)
		}
		seen[key] = true
		if (row[2] == "ANSWERED") != (row[3] != "") {
			t.Errorf("CDR %s is %s, answered at %q", key, row[2], row[3])
		}
	}
	for guid := range c.entered {
		if byCall[guid] == 0 {
			t.Errorf("call %s has no CDR", guid)
		}
	}
	answered := map[string]bool{}
	for _, row := range rowsOf(t, db, "SELECT DISTINCT guid FROM cdr WHERE disposition = 'ANSWERED'") {
		answered[row[0]] = true
	}
	for guid := range c.connects {
		if !answered[guid] {
			t.Errorf("call %s was connected and has no answered CDR", guid)
		}
	}
}

// countRecordings: every recording that was begun is finished, can be played
// and is as long as its row says.
func countRecordings(t *testing.T, r *rig, db *sql.DB, c *counted) {
	t.Helper()
	root := filepath.Join(r.Dir, "recordings")
	known := map[string]bool{}
	for _, row := range rowsOf(t, db, "SELECT path, finished_at, duration_ms, bytes FROM recordings") {
		c.recordings++
		known[row[0]] = true
		file := filepath.Join(root, filepath.FromSlash(row[0]))
		if row[1] == "" {
			t.Errorf("recording %s is not finished", row[0])
			continue
		}
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) && row[3] == "0" {
			continue // killed before the first byte
		}
		if err != nil {
			t.Errorf("recording: %v", err)
			continue
		}
		if fmt.Sprint(info.Size()) != row[3] {
			t.Errorf("recording %s has %d bytes, its row says %s", row[0], info.Size(), row[3])
		}
		if info.Size() < 200 {
			continue // nothing was said yet
		}
		a := harness.Hear(t, file)
		if got := fmt.Sprint(a.Duration().Milliseconds()); len(a.Channels) != 2 || got != row[2] {
			t.Errorf("recording %s: %d channels, %s ms, its row says %s ms", row[0], len(a.Channels), got, row[2])
		}
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // nothing was recorded
		}
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err == nil && !known[filepath.ToSlash(rel)] {
			t.Errorf("the file %s belongs to no recording", rel)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// countFacts: the journal has no gap, and the tables were made of all of it.
func countFacts(t *testing.T, r *rig, db *sql.DB, c *counted) {
	t.Helper()
	s, err := event.Open(t.Context(), event.Options{Dir: filepath.Join(r.Dir, "journal"), Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	last := s.Last()
	done := errors.New("read")
	next := uint64(1)
	ids := map[string]uint64{}
	err = s.Read(t.Context(), 0, func(f event.Fact) error {
		if f.Seq != next {
			t.Errorf("the journal goes from %d to %d", next-1, f.Seq)
		}
		if f.Type == event.KindGap || f.Type == event.KindMalformed {
			t.Errorf("fact %d is a %s", f.Seq, f.Type)
		}
		next = f.Seq + 1
		if twin, ok := ids[f.ID]; ok && f.ID != "" {
			t.Errorf("facts %d and %d are the same", twin, f.Seq)
		}
		ids[f.ID] = f.Seq
		c.journal[f.Seq] = f
		c.facts++
		if f.Seq >= last {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Fatalf("read the journal: %v", err)
	}
	if at := rowsOf(t, db, "SELECT seq FROM checkpoint"); len(at) != 1 || at[0][0] != fmt.Sprint(last) {
		t.Errorf("the tables show facts up to %v, the journal has %d", at, last)
	}
	if p := rowsOf(t, db, "SELECT kind, error FROM poisoned_facts LIMIT 3"); len(p) > 0 {
		t.Errorf("poisoned facts: %v", p)
	}
	var kinds []string
	for _, f := range c.journal {
		if !slices.Contains(kinds, string(f.Type)) {
			kinds = append(kinds, string(f.Type))
		}
	}
	slices.Sort(kinds)
	t.Logf("kinds of facts: %s", strings.Join(kinds, " "))
}
