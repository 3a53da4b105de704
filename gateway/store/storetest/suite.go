package storetest

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/store"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// Run runs the suite. Each call of open returns an empty database.
func Run(t *testing.T, open func(t *testing.T) *store.DB) {
	t.Helper()
	for name, fn := range map[string]func(*testing.T, *store.DB){
		"users":             users,
		"user fields":       userFields,
		"password history":  passwordHistory,
		"sessions":          sessions,
		"expiry":            expiry,
		"API tokens":        apiTokens,
		"campaigns":         campaigns,
		"dispositions":      dispositions,
		"trunks":            trunks,
		"settings":          settings,
		"concurrent edits":  concurrentEdits,
		"hostile text":      hostileText,
		"ping":              ping,
		"fact rows":         factRows,
		"checkpoint":        checkpoint,
		"paging":            paging,
		"filters":           filters,
		"figures":           figures,
		"old names":         oldNames,
		"refused rows":      refusedRows,
		"recordings":        recordings,
		"disposition order": dispositionOrder,
	} {
		t.Run(name, func(t *testing.T) { fn(t, open(t)) })
	}
}

// Log is a logger that says nothing.
func Log() *slog.Logger { return slog.New(slog.DiscardHandler) }

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant in all but name

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func same(t *testing.T, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}, campaign.Window{})); d != "" {
		t.Error(d)
	}
}

func users(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	_, err := db.User(ctx, "ana")
	wants(t, err, store.ErrNotFound)
	wants(t, err, fs.ErrNotExist)

	must(t, db.PutUser(ctx, auth.User{Username: "ana", Extension: "2101", FullName: "Ana Peña"}))
	wants(t, db.PutUser(ctx, auth.User{Username: "ANA "}), store.ErrConflict)
	wants(t, db.PutUser(ctx, auth.User{Username: "bob", Extension: "2101"}), store.ErrConflict)
	must(t, db.PutUser(ctx, auth.User{Username: "bob"}))
	must(t, db.PutUser(ctx, auth.User{Username: "carla"})) // two without an extension

	u, err := db.User(ctx, "Ana")
	must(t, err)
	if u.Rev != 1 || u.FullName != "Ana Peña" {
		t.Errorf("got %+v", u)
	}
	u.FullName = "Ana Example"
	must(t, db.PutUser(ctx, u))
	err = db.PutUser(ctx, u) // the revision is old now
	wants(t, err, store.ErrConflict)
	wants(t, err, fs.ErrExist)
	u.Username, u.Rev = "nobody", 3
	wants(t, db.PutUser(ctx, u), store.ErrNotFound)

	u, err = db.UserByExtension(ctx, "2101")
	must(t, err)
	if u.Username != "ana" || u.Rev != 2 || u.FullName != "Ana Example" {
		t.Errorf("got %+v", u)
	}
	must(t, db.SignedIn(ctx, "ANA", noon))
	u, err = db.User(ctx, "ana")
	must(t, err)
	if !u.LastSignInAt.Equal(noon) || u.Rev != 2 {
		t.Errorf("got %+v", u)
	}

	// Accents are part of a name; how they are encoded is not.
	must(t, db.PutUser(ctx, auth.User{Username: "josé"}))
	_, err = db.User(ctx, "JOSE\u0301")
	must(t, err)
	_, err = db.User(ctx, "jose")
	wants(t, err, store.ErrNotFound)

	list, err := db.Users(ctx)
	must(t, err)
	var names []string
	for _, u := range list {
		names = append(names, u.Username)
	}
	same(t, []string{"ana", "bob", "carla", "josé"}, names)
	must(t, db.DeleteUser(ctx, "Ana"))
	wants(t, db.DeleteUser(ctx, "ana"), store.ErrNotFound)
}

// fill sets every field of a struct, so that one that is not stored is seen.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 200))
	case reflect.Float32, reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Map:
		key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(val, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, val)
	case reflect.Struct:
		switch v.Interface().(type) {
		case time.Time:
			v.Set(reflect.ValueOf(noon.Add(time.Duration(*n) * time.Second)))
			return
		case netip.Prefix:
			v.Set(reflect.ValueOf(netip.MustParsePrefix("192.0.2.0/24")))
			return
		case campaign.Window:
			w, err := campaign.ParseWindow("mon-fri;08:00-17:30")
			if err != nil {
				panic(err)
			}
			v.Set(reflect.ValueOf(w))
			return
		}
		for _, f := range v.Fields() {
			if f.CanSet() {
				fill(f, n)
			}
		}
	default:
		panic("cannot fill " + v.Type().String())
	}
}

func filled[T any]() T {
	var v T
	n := 0
	fill(reflect.ValueOf(&v).Elem(), &n)
	return v
}

func userFields(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	u := filled[auth.User]()
	u.Rev = 0
	must(t, db.PutUser(ctx, u))
	u.Rev = 1
	got, err := db.User(ctx, u.Username)
	must(t, err)
	same(t, u, got)
}

func passwordHistory(t *testing.T, db *store.DB) { // SEC-06
	t.Helper()
	ctx := t.Context()
	must(t, db.PutUser(ctx, auth.User{Username: "ana"}))
	for i := range 5 {
		must(t, db.AddPasswordHash(ctx, "Ana", fmt.Sprintf("hash%d", i), noon, 3))
	}
	must(t, db.AddPasswordHash(ctx, "bob", "other", noon, 3))
	got, err := db.PasswordHashes(ctx, "ana", 10)
	must(t, err)
	same(t, []string{"hash4", "hash3", "hash2"}, got)
	must(t, db.DeleteUser(ctx, "ana"))
	got, err = db.PasswordHashes(ctx, "ana", 10)
	must(t, err)
	same(t, []string(nil), got)
}

func session(i int) auth.Session {
	s := filled[auth.Session]()
	s.ID, s.Username, s.TokenHash = fmt.Sprintf("s%d", i), "Ana", []byte{0, 255, byte(i)}
	s.SIPUser, s.TURNUser = fmt.Sprintf("sip%d", i), fmt.Sprintf("turn%d", i)
	s.ExpiresAt, s.LastSeenAt = noon.Add(time.Duration(i)*time.Hour), noon
	return s
}

func sessions(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	for i := range 3 {
		must(t, db.PutSession(ctx, session(i)))
	}
	twin := session(1)
	twin.ID = "twin"
	wants(t, db.PutSession(ctx, twin), store.ErrConflict) // one token, one session

	want := session(1)
	for name, fn := range map[string]func() (auth.Session, error){
		"id":    func() (auth.Session, error) { return db.Session(ctx, "s1") },
		"token": func() (auth.Session, error) { return db.SessionByTokenHash(ctx, want.TokenHash) },
		"SIP":   func() (auth.Session, error) { return db.SessionBySIPUser(ctx, "sip1") },
		"TURN":  func() (auth.Session, error) { return db.SessionByTURNUser(ctx, "turn1") },
	} {
		got, err := fn()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		same(t, want, got)
	}
	_, err := db.SessionByTokenHash(ctx, []byte("other"))
	wants(t, err, store.ErrNotFound)

	must(t, db.TouchSession(ctx, "s1", noon.Add(time.Minute), noon.Add(9*time.Hour)))
	got, err := db.Session(ctx, "s1")
	must(t, err)
	if !got.LastSeenAt.Equal(noon.Add(time.Minute)) || !got.ExpiresAt.Equal(noon.Add(9*time.Hour)) {
		t.Errorf("got %+v", got)
	}
	wants(t, db.TouchSession(ctx, "none", noon, noon), store.ErrNotFound)

	of, err := db.SessionsOf(ctx, "ANA")
	must(t, err)
	if len(of) != 3 {
		t.Errorf("%d sessions", len(of))
	}
	must(t, db.DeleteSession(ctx, "s1"))
	wants(t, db.DeleteSession(ctx, "s1"), store.ErrNotFound)
	bare := auth.Session{ID: "bare1", Username: "x", TokenHash: []byte("1"), ExpiresAt: noon}
	must(t, db.PutSession(ctx, bare)) // a browser without a phone
	bare.ID, bare.TokenHash = "bare2", []byte("2")
	must(t, db.PutSession(ctx, bare))
	must(t, db.PutUser(ctx, auth.User{Username: "ana"}))
	must(t, db.DeleteUser(ctx, "ana")) // ends the sessions
	all, err := db.Sessions(ctx)
	must(t, err)
	if len(all) != 2 {
		t.Errorf("%d sessions are left", len(all))
	}
}

func expiry(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	for i := range 4 {
		must(t, db.PutSession(ctx, session(i)))
	}
	must(t, db.PutAPIToken(ctx, auth.APIToken{ID: "old", TokenHash: []byte("a"), ExpiresAt: noon}))
	must(t, db.PutAPIToken(ctx, auth.APIToken{ID: "ever", TokenHash: []byte("b")}))
	ended, err := db.DeleteExpired(ctx, noon.Add(time.Hour))
	must(t, err)
	if len(ended) != 2 {
		t.Errorf("%d sessions ended, want 2", len(ended))
	}
	ended, err = db.DeleteExpired(ctx, noon.Add(time.Hour))
	must(t, err)
	if len(ended) != 0 {
		t.Errorf("%d sessions ended again", len(ended))
	}
	left, err := db.APITokens(ctx)
	must(t, err)
	if len(left) != 1 || left[0].ID != "ever" {
		t.Errorf("tokens %+v", left)
	}
}

func apiTokens(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	want := filled[auth.APIToken]()
	must(t, db.PutAPIToken(ctx, want))
	want.Name = "changed"
	must(t, db.PutAPIToken(ctx, want))
	got, err := db.APITokenByHash(ctx, want.TokenHash)
	must(t, err)
	same(t, want, got)
	must(t, db.DeleteAPIToken(ctx, want.ID))
	wants(t, db.DeleteAPIToken(ctx, want.ID), store.ErrNotFound)
	_, err = db.APITokenByHash(ctx, want.TokenHash)
	wants(t, err, store.ErrNotFound)
}

func campaigns(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	c := filled[campaign.Campaign]()
	c.Name, c.Rev = "Support<-", 0
	must(t, db.PutCampaign(ctx, c))
	wants(t, db.PutCampaign(ctx, c), store.ErrConflict)
	must(t, db.PutCampaign(ctx, campaign.Campaign{Name: "Atención ñ"}))
	c.Rev = 1
	got, err := db.Campaign(ctx, "Support<-")
	must(t, err)
	same(t, c, got)
	got.Weight = 9
	must(t, db.PutCampaign(ctx, got))
	wants(t, db.PutCampaign(ctx, got), store.ErrConflict)
	list, err := db.Campaigns(ctx)
	must(t, err)
	if len(list) != 2 || list[1].Name != "Support<-" || list[1].Rev != 2 {
		t.Errorf("got %+v", list)
	}
	must(t, db.DeleteCampaign(ctx, "Support<-"))
	wants(t, db.DeleteCampaign(ctx, "Support<-"), store.ErrNotFound)
}

func dispositions(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	want := []campaign.Disposition{
		{Campaign: "a", L1: "Solved"},
		{Campaign: "a", L1: "Pending", L2: "Call back", Action: "SCHEDULE"},
		{Campaign: "a", L1: "Bad", L2: "x", L3: "y"},
	}
	must(t, db.PutDispositions(ctx, "a", want))
	must(t, db.PutDispositions(ctx, "b", []campaign.Disposition{{Campaign: "b", L1: "Other"}}))
	got, err := db.DispositionsOf(ctx, "a")
	must(t, err)
	same(t, want, got)
	wants(t, db.PutDispositions(ctx, "a", []campaign.Disposition{want[0], want[0]}), store.ErrConflict)
	got, err = db.DispositionsOf(ctx, "a") // as it was
	must(t, err)
	same(t, want, got)
	must(t, db.PutDispositions(ctx, "a", nil))
	got, err = db.AllDispositions(ctx)
	must(t, err)
	if len(got) != 1 {
		t.Errorf("got %+v", got)
	}
}

func trunks(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	want := filled[trunk.Trunk]()
	want.Rev = 0
	must(t, db.PutTrunk(ctx, want))
	want.Rev = 1
	got, err := db.Trunk(ctx, want.Name)
	must(t, err)
	same(t, want, got)
	list, err := db.Trunks(ctx)
	must(t, err)
	same(t, []trunk.Trunk{want}, list)
	must(t, db.DeleteTrunk(ctx, want.Name))
	_, err = db.Trunk(ctx, want.Name)
	wants(t, err, store.ErrNotFound)
}

func settings(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	var got map[string]int
	wants(t, db.Setting(ctx, "limits", &got), store.ErrNotFound)
	must(t, db.PutSetting(ctx, "limits", map[string]int{"a": 1}))
	must(t, db.PutSetting(ctx, "limits", map[string]int{"a": 2}))
	must(t, db.Setting(ctx, "limits", &got))
	same(t, map[string]int{"a": 2}, got)
	must(t, db.DeleteSetting(ctx, "limits"))
	wants(t, db.DeleteSetting(ctx, "limits"), store.ErrNotFound)
}

// Of many who change the same revision at once, one wins.
func concurrentEdits(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	must(t, db.PutUser(ctx, auth.User{Username: "ana"}))
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			err := db.PutUser(ctx, auth.User{Username: "ana", FullName: fmt.Sprint(i), Rev: 1})
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, store.ErrConflict):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 19 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
}

func hostileText(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	for _, s := range []string{
		`'; DROP TABLE users; --`, `"`, `\`, `\'`, `?`, `%s`, "🎧 ñ 漢字", "line\nbreak", `{"a":1}`, "?0 ?TableName",
		strings.Repeat("x", 100_000),
	} {
		must(t, db.PutUser(ctx, auth.User{Username: s, FullName: s}))
		got, err := db.User(ctx, s)
		must(t, err)
		if got.FullName != s {
			t.Errorf("%.20q came back as %.20q", s, got.FullName)
		}
		must(t, db.PutSetting(ctx, s, s))
		var back string
		must(t, db.Setting(ctx, s, &back))
		if back != s {
			t.Errorf("%.20q came back as %.20q", s, back)
		}
	}
}

func ping(t *testing.T, db *store.DB) {
	t.Helper()
	must(t, db.Ping(t.Context()))
	if st := db.Stats(); st.Open == 0 {
		t.Errorf("stats %+v", st)
	}
	must(t, db.Close())
	must(t, db.Close())
	if err := db.Ping(t.Context()); err == nil {
		t.Error("a closed database answers")
	}
}
