package apply_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/store"
)

// contract is the example of the documentation.
const contract = `
trunks:
  - {name: carrier, address: "127.0.0.1:5080", transport: udp, allow: ["127.0.0.1/32"], codecs: [PCMA, PCMU], maxChannels: 100}
users:
  - {username: ana, fullName: Ana Example, extension: "2101", password: "Rio-Negro-58", roles: [agent], language: es,
     devices: [{name: desk, secret: "only-for-a-sip-phone"}]}
campaigns:
  - name: "Support<-"
    channel: voice
    direction: inbound
    did: ["59825550111"]
    strategy: leastrecent        # ringall leastrecent fewestcalls random rrmemory linear wrandom
    ringSeconds: 15
    retrySeconds: 3
    wrapUpSeconds: 10
    serviceLevelSeconds: 20
    schedule: ["sun-sat;00:00-23:59"]
    record: true
    autoAnswer: false
    breaks: [Lunch, Training]
    members: [{user: ana, penalty: 0}]
  - {name: "Sales->", channel: voice, direction: outbound, trunk: carrier, callerId: ["18885550100"], members: [{user: ana}]}
dispositions:
  - {campaign: "Support<-", l1: Solved}
  - {campaign: "Support<-", l1: Pending, l2: Call back, action: SCHEDULE}
`

type journal struct {
	mu    sync.Mutex
	facts []event.Payload
}

func (j *journal) Append(_ context.Context, _ time.Time, ps ...event.Payload) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.facts = append(j.facts, ps...)
	return nil
}

type rig struct {
	*apply.Engine
	auth    *auth.Service
	db      *store.DB
	journal *journal
	changed int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{journal: &journal{}}
	log := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	db, err := store.Open(t.Context(), store.Options{Dir: dir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	r.db = db
	r.auth, err = auth.New(t.Context(), auth.Options{
		Store: db, Journal: r.journal, Log: log, Dir: dir, Realm: "cordboard", TURNRealm: "cordboard",
		Rules: auth.PasswordRules{MinLength: 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Engine = apply.New(apply.Options{
		Store: db, Auth: r.auth, Journal: r.journal, Log: log, Country: "UY",
		Changed: func(context.Context) error { r.changed++; return nil },
	})
	return r
}

func state(t *testing.T, text string) api.State {
	t.Helper()
	f, err := apply.Parse("state.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f.State
}

func (r *rig) apply(t *testing.T, text string, change ...func(*apply.Request)) api.Diff {
	t.Helper()
	req := apply.Request{State: state(t, text), By: "test"}
	for _, c := range change {
		c(&req)
	}
	d, err := r.Apply(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func prune(r *apply.Request) { r.Prune = true }

func lines(d api.Diff) []string {
	out := []string{}
	for _, c := range d.Changes {
		s := c.Op + " " + c.Kind + " " + c.Name
		for _, f := range c.Fields {
			if c.Op == "change" {
				s += " " + f.Field
			}
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestContractsExampleIsAppliedOnceAndThenChangesNothing(t *testing.T) {
	r := newRig(t)
	want := []string{
		"add campaign Sales->", "add campaign Support<-", "add disposition Support<-/Pending/Call back",
		"add disposition Support<-/Solved", "add trunk carrier", "add user ana",
	}
	same(t, "dry run", want, lines(r.apply(t, contract, func(q *apply.Request) { q.DryRun = true })))
	if r.changed != 0 {
		t.Fatal("a dry run changes")
	}
	same(t, "first", want, lines(r.apply(t, contract)))
	if r.changed != 1 {
		t.Fatal("the running parts were not told")
	}
	s, err := r.auth.SignIn(t.Context(), auth.SignIn{Username: "ana", Password: "Rio-Negro-58", Remote: netip.MustParseAddr("192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "second", []string{}, lines(r.apply(t, contract)))
	same(t, "second with prune", []string{}, lines(r.apply(t, contract, prune)))
	if _, err := r.auth.Authenticate(s.Token, false); err != nil {
		t.Error("an unchanged password ended a session")
	}
	d := r.apply(t, strings.Replace(contract, "Rio-Negro-58", "Rio-Negro-59", 1))
	same(t, "password", []string{"change user ana password"}, lines(d))
	if _, err := r.auth.Authenticate(s.Token, false); err == nil {
		t.Error("a changed password ends no session")
	}
	for _, f := range r.journal.facts {
		if a, ok := f.(event.Audit); ok && strings.Contains(a.Object+a.Action, "Rio-Negro") {
			t.Error("the audit holds a password")
		}
	}
}

func TestExportCanBeAppliedAndHasNoSecrets(t *testing.T) {
	r := newRig(t)
	r.apply(t, contract+`
  - {campaign: "Sales->", l1: "yes"}
`)
	r.apply(t, `trunks: [{name: carrier, username: u, password: "carrier-secret"}]`)
	s, err := r.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := apply.Format(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"Rio-Negro", "only-for", "carrier-secret", "argon2", "password"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the export holds %q", secret)
		}
	}
	same(t, "apply of the export", []string{}, lines(r.apply(t, string(text), prune)))
	if ha1, ok := r.auth.HA1(t.Context(), "2101-desk"); !ok || ha1 != auth.HA1("2101-desk", "cordboard", "only-for-a-sip-phone") {
		t.Error("an absent secret was changed")
	}
	if _, err := r.auth.SignIn(t.Context(), auth.SignIn{Username: "ana", Password: "Rio-Negro-58", Remote: netip.MustParseAddr("192.0.2.1")}); err != nil {
		t.Error(err)
	}
}

func TestWhatTheFileDoesNotNameIsKeptUnlessPruned(t *testing.T) {
	r := newRig(t)
	r.apply(t, contract)
	same(t, "more", []string{"add user ben", "change user ana fullName"}, lines(r.apply(t, `
users:
  - {username: ana, fullName: Ana Otra}
  - {username: ben, extension: "2102", roles: [agent], password: "Rio-Negro-60"}
`)))
	u, _ := r.auth.User("ana")
	if u.Extension != "2101" || u.Language != "es" || u.PasswordHash == "" {
		t.Errorf("fields that were not named changed: %+v", u)
	}
	same(t, "prune", []string{
		"change campaign Sales-> members", "delete campaign Support<-",
		"delete disposition Support<-/Pending/Call back", "delete disposition Support<-/Solved", "delete user ana",
	}, lines(r.apply(t, `
trunks: [{name: carrier}]
users: [{username: ben}]
campaigns: [{name: "Sales->"}]
`, prune)))
}

// One wrong place and nothing of the file is taken.
func TestWrongStateChangesNothingAndNamesEveryPlace(t *testing.T) {
	r := newRig(t)
	r.apply(t, contract)
	r.apply(t, `users: [{username: root, roles: [admin], password: "Rio-Negro-61"}]`)
	tests := map[string]string{
		"trunks: [{name: a, address: 'x y'}]":                                                        "trunks[0].address",
		"trunks: [{name: a, address: 'h:0'}]":                                                        "trunks[0].address",
		"trunks: [{name: a, address: h, transport: smoke}]":                                          "trunks[0].transport",
		"trunks: [{name: a, address: h, allow: [anywhere]}]":                                         "trunks[0].allow[0]",
		"trunks: [{name: a, address: h, codecs: [GSM]}]":                                             "trunks[0].codecs[0]",
		"trunks: [{name: a, address: h, register: true}]":                                            "trunks[0].username",
		"trunks: [{name: a, address: h, srtp: maybe}]":                                               "trunks[0].srtp",
		"trunks: [{name: a, address: h, country: XX}]":                                               "trunks[0].country",
		"trunks: [{name: a, address: h}, {name: a, address: h}]":                                     "trunks[1].name",
		"users: [{username: 'a b', password: 'Rio-Negro-60'}]":                                       "users[0].username",
		"users: [{username: new, extension: 2101}]":                                                  "users[0].extension",
		"users: [{username: new, password: short}]":                                                  "users[0].password",
		"users: [{username: root, roles: [agent]}]":                                                  "users",
		"users: [{username: a}, {username: A}]":                                                      "users[1].username",
		"campaigns: [{name: c, direction: inbound, did: ['59825550111']}]":                           "campaigns[0].did",
		"campaigns: [{name: c, strategy: best}]":                                                     "campaigns[0].strategy",
		"campaigns: [{name: c, ringSeconds: 0}]":                                                     "campaigns[0].ringSeconds",
		"campaigns: [{name: c, schedule: [always]}]":                                                 "campaigns[0].schedule",
		"campaigns: [{name: c, trunk: none}]":                                                        "campaigns[0].trunk",
		"campaigns: [{name: c, members: [{user: none}]}]":                                            "campaigns[0].members[0].user",
		"dispositions: [{campaign: none, l1: x}]":                                                    "dispositions[0]",
		"dispositions: [{campaign: 'Support<-', l1: x, l3: y}]":                                      "dispositions[0].l2",
		"dispositions: [{campaign: 'Support<-', l1: x, action: FLY}]":                                "dispositions[0].action",
		"dispositions: [{campaign: 'Support<-', l1: x}, {campaign: 'Support<-', l1: x, action: ''}]": "dispositions[1]",
	}
	before, err := r.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range tests {
		_, err := r.Apply(t.Context(), apply.Request{State: state(t, text+"\n")})
		var wrong *apply.InvalidError
		if !errors.As(err, &wrong) || !slices.ContainsFunc(wrong.Fields, func(f api.ProblemField) bool { return f.Location == want && f.Message != "" }) {
			t.Errorf("%s: %v", text, err)
		}
	}
	after, err := r.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "state", before, after)
}

func TestRevisions(t *testing.T) {
	r := newRig(t)
	r.apply(t, contract)
	u, _ := r.auth.User("ana")
	req := apply.Request{State: state(t, "users: [{username: ana, mobile: '1'}]"), Expect: map[string]uint64{"user/ana": u.Rev}}
	if _, err := r.Apply(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	req.State = state(t, "users: [{username: ana, mobile: '2'}]")
	if _, err := r.Apply(t.Context(), req); !errors.Is(err, apply.ErrConflict) {
		t.Errorf("an old revision is taken: %v", err)
	}
	if _, err := r.Apply(t.Context(), apply.Request{Delete: []string{"user/nobody"}}); !errors.Is(err, apply.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := r.Apply(t.Context(), apply.Request{Delete: []string{"trunk/carrier"}}); err == nil {
		t.Error("a trunk that a campaign needs is deleted")
	}
}

func TestSDESInClearIsWarnedOf(t *testing.T) { // rules of safety 5
	r := newRig(t)
	d := r.apply(t, "trunks: [{name: a, address: h, srtp: sdes}]")
	if len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], "in clear") {
		t.Errorf("%v", d.Warnings)
	}
	if d := r.apply(t, "trunks: [{name: b, address: h, srtp: sdes, transport: tls}]"); len(d.Warnings) != 0 {
		t.Errorf("%v", d.Warnings)
	}
}

func TestStateFileWithWrongKeysIsRefusedByLine(t *testing.T) { // 7.2
	const text = `trunks:
  - name: a
    addresss: h
  - {address: h}
users:
  - {username: ana, extension: 2101, roles: agent}
  - {username: ben, mustChangePassword: perhaps, extension: [1]}
campaigns:
  - name: c
    ringSeconds: 15s
    ringSeconds: 10
nonsense: 1
dispositions: {campaign: c}
`
	_, err := apply.Parse("state.yaml", []byte(text))
	var wrong *apply.FileError
	if !errors.As(err, &wrong) {
		t.Fatalf("got %v", err)
	}
	want := []string{
		"state.yaml:3: trunks[0].addresss: is not a known key; known are name, address,",
		"state.yaml:4: trunks[1].name: is missing",
		"state.yaml:6: users[0].roles: must be a list",
		"state.yaml:7: users[1].mustChangePassword: must be true or false",
		"state.yaml:7: users[1].extension: must be a single value",
		"state.yaml:10: campaigns[0].ringSeconds: must be a whole number",
		"state.yaml:11: campaigns[0].ringSeconds: is given twice",
		"state.yaml:12: nonsense: is not a known key",
		"state.yaml:13: dispositions: must be a list",
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("missing %q", w)
		}
	}
	if len(wrong.Problems) != len(want) {
		t.Errorf("%d problems, want %d:\n%v", len(wrong.Problems), len(want), err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(contract))
	for _, s := range []string{"", "users: [{username: &a x}, {username: *a}]", "users: ~", "trunks: [~]", "a: b: c", "[", "users:\n- username: !!binary aGk=\n", "? {a: b}\n: c", "users: [{username: 0x10, extension: 1e3}]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := apply.Parse("f", data)
		if err != nil {
			return
		}
		text, err := apply.Format(file.State)
		if err != nil {
			t.Fatal(err)
		}
		again, err := apply.Parse("f", text)
		if err != nil {
			t.Fatalf("written state is refused: %v\n%s", err, text)
		}
		two, err := apply.Format(again.State)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(text), string(two)); d != "" {
			t.Fatal(d)
		}
	})
}

func TestDialRefusesWhatIsUnsafe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("cbt_x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, target := range []apply.Target{
		{Server: "http://voice.example.com", TokenFile: file},
		{Server: "voice.example.com", TokenFile: file},
		{Server: "https://voice.example.com"},
		{Server: "https://voice.example.com", TokenFile: file + "x"},
		{Server: "https://voice.example.com", TokenFile: file, CA: file},
	} {
		if _, err := apply.Dial(target); err == nil {
			t.Errorf("%+v is taken", target)
		}
	}
	if _, err := apply.Dial(apply.Target{Server: "http://127.0.0.1:8080", TokenFile: file}); err != nil {
		t.Error(err)
	}
}
