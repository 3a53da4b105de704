package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/store"
)

const password = "Rio-Negro-58"

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

func (j *journal) has(action string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.facts, func(p event.Payload) bool { a, ok := p.(event.Audit); return ok && a.Action == action })
}

type rig struct {
	*auth.Service
	db      *store.DB
	dir     string
	journal *journal
	ended   chan string
	o       auth.Options
}

func newRig(t *testing.T, change ...func(*auth.Options)) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), journal: &journal{}, ended: make(chan string, 100)}
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), store.Options{Dir: r.dir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	r.db = db
	r.o = auth.Options{
		Store: db, Journal: r.journal, Log: log, Dir: r.dir, Realm: "cordboard", TURNRealm: "turn",
		Rules:        auth.PasswordRules{MinLength: 10, Lower: true, Upper: true, Digit: true},
		SessionEnded: func(s auth.Session, why string) { r.ended <- s.Username + ": " + why },
	}
	for _, c := range change {
		c(&r.o)
	}
	r.open(t)
	return r
}

func (r *rig) open(t *testing.T) {
	t.Helper()
	s, err := auth.New(t.Context(), r.o)
	if err != nil {
		t.Fatal(err)
	}
	r.Service = s
}

// set makes or changes a user as the engine does.
func (r *rig) set(t *testing.T, spec auth.UserSpec) auth.Made {
	t.Helper()
	var old *auth.User
	if u, ok := r.User(spec.Username); ok {
		old = &u
	}
	made, err := r.MakeUser(t.Context(), old, spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.db.PutUser(t.Context(), made.User); err != nil {
		t.Fatal(err)
	}
	var changed []string
	if made.PasswordChanged && old != nil {
		changed = append(changed, spec.Username)
	}
	if err := r.Reload(t.Context(), changed...); err != nil {
		t.Fatal(err)
	}
	return made
}

func ana() auth.UserSpec {
	return auth.UserSpec{
		Username: "ana", FullName: "Ana Example", Extension: "2101", Password: password, Roles: []auth.Role{auth.RoleAgent},
		Devices: []auth.DeviceSpec{{Name: "desk", Secret: "only-for-a-sip-phone"}},
	}
}

func (r *rig) in(t *testing.T, user, pw, from string) (auth.SignedIn, error) {
	t.Helper()
	return r.SignIn(t.Context(), auth.SignIn{Username: user, Password: pw, Remote: netip.MustParseAddr(from), UserAgent: "test"})
}

func TestSessionGivesTokenAndCredentialsThatEndWithIt(t *testing.T) {
	r := newRig(t)
	r.set(t, ana())
	s, err := r.in(t, " ANA ", password, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Authenticate(s.Token, false)
	if err != nil || p.Username != "ana" || !p.Can(auth.ScopeSelf) || p.Can(auth.ScopeRead) {
		t.Fatalf("principal %+v, %v", p, err)
	}
	ha1, ok := r.HA1(t.Context(), s.Session.SIPUser)
	if !ok || ha1 != auth.HA1(s.Session.SIPUser, "cordboard", s.SIPPassword) {
		t.Fatal("the session's SIP secret is not found")
	}
	if aor, ok := r.AoR(t.Context(), s.Session.SIPUser); !ok || aor != "2101" {
		t.Fatalf("aor %q %v", aor, ok)
	}
	if _, ok := r.TURNKey(s.Session.TURNUser); !ok {
		t.Fatal("the TURN key is not found")
	}
	if strings.Contains(s.SIPPassword, password) || s.SIPPassword == "" || s.TURNPassword == "" || s.SIPPassword == s.TURNPassword {
		t.Fatal("secrets are not their own")
	}
	if err := r.End(t.Context(), s.Session.ID, "ana", netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Authenticate(s.Token, false); !errors.Is(err, auth.ErrToken) {
		t.Error("the token outlives the session")
	}
	if _, ok := r.HA1(t.Context(), s.Session.SIPUser); ok {
		t.Error("the SIP secret outlives the session")
	}
	if _, ok := r.TURNKey(s.Session.TURNUser); ok {
		t.Error("the TURN key outlives the session")
	}
	if got := <-r.ended; got != "ana: ended" {
		t.Error(got)
	}
	if !r.journal.has("sign-in") || !r.journal.has("session ended") { // SEC-21
		t.Error("audit is missing")
	}
}

func TestSessionsSurviveARestart(t *testing.T) {
	r := newRig(t)
	r.set(t, ana())
	s, err := r.in(t, "ana", password, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	r.open(t)
	if _, err := r.Authenticate(s.Token, false); err != nil {
		t.Error(err)
	}
	if ha1, ok := r.HA1(t.Context(), s.Session.SIPUser); !ok || ha1 != auth.HA1(s.Session.SIPUser, "cordboard", s.SIPPassword) {
		t.Error("the SIP secret is lost")
	}
	if ha1, ok := r.HA1(t.Context(), "2101-desk"); !ok || ha1 != auth.HA1("2101-desk", "cordboard", "only-for-a-sip-phone") {
		t.Error("the device's secret is lost")
	}
	again, err := r.in(t, "ana", password, "192.0.2.1")
	if err != nil || again.PreviousSignInAt.IsZero() { // SEC-02
		t.Errorf("previous sign-in: %v, %v", again.PreviousSignInAt, err)
	}
}

func TestNoSecretIsStoredReadably(t *testing.T) {
	r := newRig(t)
	r.set(t, ana())
	s, err := r.in(t, "ana", password, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	ha1, _ := r.HA1(t.Context(), "2101-desk")
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(r.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, secret := range []string{password, "only-for-a-sip-phone", s.Token, s.SIPPassword, s.TURNPassword, ha1} {
			if strings.Contains(string(b), secret) {
				t.Errorf("%s holds a secret", e.Name())
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An unknown user and a wrong password are one answer and take the same time.
func TestUnknownUserIsAnsweredLikeAWrongPassword(t *testing.T) {
	r := newRig(t)
	r.set(t, ana())
	var took [2]time.Duration
	for i, user := range []string{"ana", "nobody"} {
		best := time.Hour
		for range 3 {
			start := time.Now()
			_, err := r.in(t, user, "Wrong-Pass-1", "192.0.2."+string(rune('1'+i)))
			best = min(best, time.Since(start))
			if !errors.Is(err, auth.ErrCredentials) {
				t.Fatalf("%s: %v", user, err)
			}
		}
		took[i] = best
	}
	if took[1] < took[0]/2 || took[0] < took[1]/2 {
		t.Errorf("wrong password %s, unknown user %s", took[0], took[1])
	}
}

func TestGuessingIsSlowedDownButLocksNobodyOut(t *testing.T) {
	r := newRig(t)
	r.set(t, ana())
	if _, err := r.in(t, "ana", password, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	var throttled *auth.ThrottledError
	for _, user := range []string{"ana", "nobody"} {
		n := 0
		for ; n < 30; n++ {
			if _, err := r.in(t, user, "Wrong-Pass-1", "198.51.100.9"); errors.As(err, &throttled) {
				break
			}
		}
		if n < 3 || n > 10 {
			t.Errorf("%s: throttled after %d guesses", user, n)
		}
	}
	for i := range 60 { // from everywhere
		_, _ = r.in(t, "ana", "Wrong-Pass-1", netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}).String())
	}
	if _, err := r.in(t, "ana", password, "192.0.2.1"); err != nil {
		t.Errorf("ana is locked out at her own place: %v", err)
	}
}

func TestLockAfterBlocksTheAccount(t *testing.T) { // SEC-05, SEC-07
	r := newRig(t, func(o *auth.Options) { o.LockAfter = 3 })
	r.set(t, ana())
	for i := range 3 {
		_, _ = r.in(t, "ana", "Wrong-Pass-1", netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}).String())
	}
	if _, err := r.in(t, "ana", "Wrong-Pass-1", "192.0.2.1"); !errors.Is(err, auth.ErrCredentials) {
		t.Errorf("a wrong password learns of the block: %v", err)
	}
	if _, err := r.in(t, "ana", password, "192.0.2.1"); !errors.Is(err, auth.ErrBlocked) {
		t.Errorf("got %v", err)
	}
}

func TestPasswordChangeEndsOtherSessionsAndApplyingItAgainEndsNone(t *testing.T) {
	r := newRig(t)
	r.set(t, ana())
	one, err := r.in(t, "ana", password, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if m := r.set(t, ana()); len(m.Changed) > 0 || m.PasswordChanged {
		t.Fatalf("an unchanged user changes %v", m.Changed)
	}
	if _, err := r.Authenticate(one.Token, false); err != nil {
		t.Fatal("an unchanged password ended a session")
	}
	two, err := r.in(t, "ana", password, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.ChangePassword(t.Context(), "ana", password, "short", netip.MustParseAddr("192.0.2.1"), two.Session.ID); err == nil {
		t.Fatal("a short password is taken")
	}
	if err := r.ChangePassword(t.Context(), "ana", password, "Otra-Clave-77", netip.MustParseAddr("192.0.2.1"), two.Session.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Authenticate(one.Token, false); err == nil {
		t.Error("the other session goes on")
	}
	if _, err := r.Authenticate(two.Token, false); err != nil {
		t.Error("the session that changed it ended")
	}
	spec := ana()
	spec.State = auth.UserInactive
	spec.Password = ""
	r.set(t, spec)
	if _, err := r.Authenticate(two.Token, false); err == nil {
		t.Error("an inactive user's session goes on")
	}
	if _, err := r.in(t, "ana", "Otra-Clave-77", "192.0.2.1"); !errors.Is(err, auth.ErrInactive) {
		t.Errorf("got %v", err)
	}
}

func TestMustChangePasswordComesFirst(t *testing.T) { // SEC-04, AUTH-05
	r := newRig(t)
	spec := ana()
	spec.MustChangePassword = true
	r.set(t, spec)
	s, err := r.in(t, "ana", password, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if s.SIPPassword != "" || s.TURNPassword != "" {
		t.Error("credentials before the change")
	}
	if _, err := r.Credentials(t.Context(), s.Session.ID); !errors.Is(err, auth.ErrMustChange) {
		t.Errorf("got %v", err)
	}
	if err := r.ChangePassword(t.Context(), "ana", password, "Otra-Clave-77", netip.MustParseAddr("192.0.2.1"), s.Session.ID); err != nil {
		t.Fatal(err)
	}
	c, err := r.Credentials(t.Context(), s.Session.ID)
	if err != nil || c.SIPPassword == "" {
		t.Errorf("no credentials after the change: %v", err)
	}
	if _, ok := r.HA1(t.Context(), c.Session.SIPUser); !ok {
		t.Error("new SIP secret is not found")
	}
}

func TestSessionsEndByTime(t *testing.T) {
	r := newRig(t, func(o *auth.Options) { o.SessionMax = 50 * time.Millisecond })
	r.set(t, ana())
	s, err := r.in(t, "ana", password, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.After(5 * time.Second)
	for {
		if _, err := r.Authenticate(s.Token, false); err != nil {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the session does not end")
		default:
			runtime.Gosched()
		}
	}
	if _, ok := r.HA1(t.Context(), s.Session.SIPUser); ok {
		t.Error("SIP secret of an expired session")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Run(ctx) // sweeps once at its end
	if n := len(r.Sessions("")); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestAPITokensAreScopedAndCanBeEnded(t *testing.T) {
	r := newRig(t)
	tok, text, err := r.NewAPIToken(t.Context(), "wallboard", []auth.Scope{auth.ScopeRead}, time.Time{}, auth.Principal{Username: "root"}, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	r.open(t)
	p, err := r.Authenticate(text, false)
	if err != nil || !p.Can(auth.ScopeRead) || p.Can(auth.ScopeWrite) || p.Can(auth.ScopeSelf) {
		t.Fatalf("%+v %v", p, err)
	}
	if err := r.EndAPIToken(t.Context(), tok.ID, auth.Principal{Username: "root"}, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Authenticate(text, false); err == nil {
		t.Error("an ended token opens doors")
	}
	if _, _, err := r.NewAPIToken(t.Context(), "x", []auth.Scope{"self"}, time.Time{}, p, netip.Addr{}); err == nil {
		t.Error("a token with the scope self")
	}
}

func TestAdminTokenIsPrivateLocalAndRotated(t *testing.T) {
	r := newRig(t)
	file := filepath.Join(r.dir, auth.AdminTokenFile)
	read := func() string {
		t.Helper()
		if err := r.RotateAdminToken(); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(file)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Fatalf("%v %v", st.Mode(), err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	first := read()
	if p, err := r.Authenticate(first, true); err != nil || !p.Can(auth.ScopeAdmin) {
		t.Errorf("%+v %v", p, err)
	}
	if _, err := r.Authenticate(first, false); err == nil {
		t.Error("the admin token works from elsewhere")
	}
	second := read()
	if _, err := r.Authenticate(first, true); err == nil || first == second {
		t.Error("the old admin token works after a start")
	}
	if err := r.DropAdminToken(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Authenticate(second, true); err == nil {
		t.Error("the admin token works after the stop")
	}
}

func TestSetUpLinkWorksOnce(t *testing.T) {
	r := newRig(t)
	link, err := r.SetUpLink("https://127.0.0.1:8443")
	if err != nil || link == "" {
		t.Fatal(link, err)
	}
	st, err := os.Stat(filepath.Join(r.dir, auth.SetUpLinkFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatal(st, err)
	}
	_, token, _ := strings.Cut(link, "token=")
	spec := auth.UserSpec{Username: "root", Password: "Primera-Clave-1"}
	if _, err := r.SetUp(t.Context(), token+"x", spec, netip.Addr{}); !errors.Is(err, auth.ErrSetUp) {
		t.Errorf("wrong token: %v", err)
	}
	if _, err := r.SetUp(t.Context(), token, spec, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetUp(t.Context(), token, auth.UserSpec{Username: "two", Password: "Primera-Clave-1"}, netip.Addr{}); !errors.Is(err, auth.ErrSetUp) {
		t.Errorf("second use: %v", err)
	}
	s, err := r.in(t, "root", "Primera-Clave-1", "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := r.Authenticate(s.Token, false); !p.Can(auth.ScopeAdmin) {
		t.Error("the first administrator is none")
	}
	if link, err := r.SetUpLink("x"); err != nil || link != "" {
		t.Errorf("a link though there is an administrator: %q %v", link, err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, auth.SetUpLinkFile)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the link's file is left")
	}
}

func TestUserRules(t *testing.T) {
	r := newRig(t)
	for name, change := range map[string]func(*auth.UserSpec){
		"username":   func(s *auth.UserSpec) { s.Username = "a b" },
		"extension":  func(s *auth.UserSpec) { s.Extension = "21x" },
		"email":      func(s *auth.UserSpec) { s.Email = "nobody" },
		"language":   func(s *auth.UserSpec) { s.Language = "xx" },
		"roles":      func(s *auth.UserSpec) { s.Roles = []auth.Role{"god"} },
		"state":      func(s *auth.UserSpec) { s.State = "gone" },
		"password":   func(s *auth.UserSpec) { s.Password = "aaaaaaaaaaaa" },
		"devices":    func(s *auth.UserSpec) { s.Devices[0].Name = "a.b" },
		"devices 2":  func(s *auth.UserSpec) { s.Devices[0].Secret = "short" },
		"devices 3":  func(s *auth.UserSpec) { s.Devices[0].Secret = "" },
		"devices 4":  func(s *auth.UserSpec) { s.Extension = "" },
		"permission": func(s *auth.UserSpec) { s.Permissions = []string{"fly"} },
	} {
		spec := ana()
		change(&spec)
		var rule *auth.RuleError
		if _, err := r.MakeUser(t.Context(), nil, spec); !errors.As(err, &rule) || !strings.HasPrefix(name, rule.Field[:4]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A flood of sign-ins cannot take more than its share: what cannot wait is
// refused at once.
func TestSignInFloodIsBounded(t *testing.T) {
	r := newRig(t)
	r.set(t, ana())
	var wg sync.WaitGroup
	var mu sync.Mutex
	busy := 0
	for i := range 300 {
		wg.Go(func() {
			_, err := r.SignIn(context.Background(), auth.SignIn{Username: "u" + string(rune('a'+i%26)), Password: "x", Remote: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})})
			if errors.Is(err, auth.ErrBusy) {
				mu.Lock()
				busy++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if busy == 0 {
		t.Error("300 sign-ins at once were all hashed")
	}
}

func TestKeyFileOfOthersIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, err := auth.OpenSealer(dir)
	if err != nil {
		t.Fatal(err)
	}
	sealed := s.Seal("trunk", []byte("secret"))
	if _, err := s.Unseal("other", sealed); !errors.Is(err, auth.ErrUnseal) {
		t.Error("sealed for another purpose")
	}
	again, err := auth.OpenSealer(dir)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := again.Unseal("trunk", sealed); err != nil || string(b) != "secret" {
		t.Errorf("%q %v", b, err)
	}
	if err := os.Chmod(filepath.Join(dir, auth.KeyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.OpenSealer(dir); err == nil {
		t.Error("a key that others can read is used")
	}
}
