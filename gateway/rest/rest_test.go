package rest_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/report"
)

func decode[T any](t *testing.T, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%v: %.300s", err, a.body)
	}
	return v
}

func TestSignInTellsThePhoneWhereToGoAndMakesTheAgentAvailable(t *testing.T) {
	r := newRig(t)
	a := r.want(r.do("POST", "/api/v1/sessions", "", api.SignIn{Username: "ana", Password: pw, Phone: true}), 201)
	s := decode[api.Session](t, a)
	if s.SIP == nil || s.SIP.AOR != "sip:2101@cordboard" || s.SIP.Password == "" || len(s.SIP.URLs) != 1 || s.SIP.URLs[0] != "wss://127.0.0.1:8089/ws" {
		t.Errorf("sip: %+v", s.SIP)
	}
	if len(s.ICEServers) != 2 || s.ICEServers[1].Credential == "" || s.ICEServers[1].URLs[0] != "turn:127.0.0.1:3478?transport=udp" {
		t.Errorf("ice: %+v", s.ICEServers)
	}
	if v, ok := r.agents.Snapshot("ana"); !ok || !v.SignedIn || v.Endpoint != "app" {
		t.Errorf("agent: %+v", v)
	}
	cur := decode[api.Session](t, r.want(r.do("GET", "/api/v1/sessions/current", s.Token, nil), 200))
	if cur.Token != "" || cur.SIP.Password != "" || cur.ICEServers[1].Credential != "" || len(cur.User.Campaigns) != 2 {
		t.Errorf("current: %+v", cur)
	}
	r.want(r.do("POST", "/api/v1/sessions", "", api.SignIn{Username: "ana", Password: pw, Device: "kitchen"}), 422)
	r.want(r.do("POST", "/api/v1/sessions", "", api.SignIn{Username: "ana", Password: pw, Device: "desk"}), 201)
	r.want(r.do("DELETE", "/api/v1/sessions/current", s.Token, nil), 204)
	r.want(r.do("GET", "/api/v1/sessions/current", s.Token, nil), 401)
	// AUTH-10: a supervisor ends an agent's session, an agent only their own
	ana, sup := r.session("ana"), r.session("sup")
	id := decode[api.Session](t, r.do("GET", "/api/v1/sessions/current", ana, nil)).ID
	r.want(r.do("DELETE", "/api/v1/sessions/"+id, r.session("ben"), nil), 404)
	r.want(r.do("DELETE", "/api/v1/sessions/"+id, sup, nil), 204)
	r.want(r.do("GET", "/api/v1/sessions/current", ana, nil), 401)
}

func TestWrongPasswordAndUnknownUserGetOneAnswer(t *testing.T) {
	r := newRig(t)
	one := r.want(r.do("POST", "/api/v1/sessions", "", api.SignIn{Username: "ana", Password: "wrong"}), 401)
	two := r.want(r.do("POST", "/api/v1/sessions", "", api.SignIn{Username: "nobody", Password: "wrong"}), 401)
	if string(one.body) != string(two.body) || one.problem(t).Code != "wrong_credentials" {
		t.Errorf("%s\n%s", one.body, two.body)
	}
	var last answer
	for range 12 {
		last = r.do("POST", "/api/v1/sessions", "", api.SignIn{Username: "nobody", Password: "wrong"})
	}
	if last.status != 429 || last.head.Get("Retry-After") == "" {
		t.Errorf("%d %s", last.status, last.body)
	}
}

func TestPasswordSetByAnAdministratorMustBeChangedFirst(t *testing.T) { // SEC-04, ADMIN-04, AUTH-05
	r := newRig(t)
	r.want(r.do("PUT", "/api/v1/users/new", r.admin, map[string]any{"username": "new", "extension": "2109", "roles": []string{"agent"}, "password": "Temporal-001"}), 200)
	s := decode[api.Session](t, r.want(r.do("POST", "/api/v1/sessions", "", api.SignIn{Username: "new", Password: "Temporal-001", Phone: true}), 201))
	if !s.User.MustChangePassword || s.SIP != nil {
		t.Errorf("%+v", s)
	}
	if p := r.want(r.do("GET", "/api/v1/campaigns", s.Token, nil), 403).problem(t); p.Code != "password_change_required" {
		t.Error(p.Code)
	}
	r.want(r.do("PUT", "/api/v1/password", s.Token, api.PasswordChange{OldPassword: "Temporal-001", NewPassword: "Definitiva-02"}), 204)
	r.want(r.do("GET", "/api/v1/campaigns", s.Token, nil), 200)
	if c := decode[api.Session](t, r.want(r.do("POST", "/api/v1/sessions/current/credentials", s.Token, nil), 200)); c.SIP == nil || c.SIP.Password == "" {
		t.Errorf("%+v", c)
	}
}

func TestObjectsAreChangedOnlyByWhoKnowsTheirRevision(t *testing.T) {
	r := newRig(t)
	a := r.want(r.do("GET", "/api/v1/users/ana", r.admin, nil), 200)
	tag := a.head.Get("Etag")
	body := map[string]any{"username": "ana", "mobile": "099"}
	r.want(r.do("PUT", "/api/v1/users/ana", r.admin, body, "If-None-Match", "*"), 409)
	got := r.want(r.do("PUT", "/api/v1/users/ana", r.admin, body, "If-Match", tag), 200)
	if u := decode[api.UserView](t, got); *u.Mobile != "099" || *u.Extension != "2101" || got.head.Get("Etag") == tag {
		t.Errorf("%s", got.body)
	}
	if p := r.want(r.do("PUT", "/api/v1/users/ana", r.admin, body, "If-Match", tag), 409).problem(t); p.Code != "conflict" {
		t.Error(p.Code)
	}
	r.want(r.do("PUT", "/api/v1/users/ana", r.admin, body, "If-Match", "yesterday"), 400)
	r.want(r.do("PUT", "/api/v1/users/other", r.admin, body), 422)
	r.want(r.do("DELETE", "/api/v1/users/ana", r.admin, nil, "If-Match", tag), 409)
	r.want(r.do("DELETE", "/api/v1/users/nobody", r.admin, nil), 404)
	if p := r.want(r.do("PUT", "/api/v1/users/root", r.admin, map[string]any{"username": "root", "roles": []string{"agent"}}), 422).problem(t); len(p.Errors) == 0 {
		t.Error("the last administrator")
	}
	if r.stream.audits("change user") == 0 { // SEC-21
		t.Error("no audit")
	}
}

func TestCampaignsMembersAndDispositions(t *testing.T) {
	r := newRig(t)
	sup, ana := r.session("sup"), r.session("ana")
	if got := decode[[]api.CampaignView](t, r.want(r.do("GET", "/api/v1/campaigns", ana, nil), 200)); len(got) != 2 {
		t.Errorf("ana sees %d campaigns", len(got))
	}
	r.want(r.do("GET", "/api/v1/campaigns/Other%3C-", ana, nil), 404)
	r.want(r.do("PUT", "/api/v1/campaigns/Other%3C-/members/ana", sup, map[string]any{"penalty": 2}), 204)
	r.want(r.do("GET", "/api/v1/campaigns/Other%3C-", ana, nil), 200)
	r.want(r.do("PUT", "/api/v1/campaigns/Other%3C-/members/nobody", sup, map[string]any{}), 422)
	r.want(r.do("DELETE", "/api/v1/campaigns/Other%3C-/members/ana", sup, nil), 204)
	r.want(r.do("DELETE", "/api/v1/campaigns/Other%3C-/members/ana", sup, nil), 404)
	list := `[{"campaign":"Support<-","l1":"Solved"},{"campaign":"Support<-","l1":"Pending","action":"SCHEDULE"}]`
	r.want(r.do("PUT", "/api/v1/campaigns/Support%3C-/dispositions", sup, list), 204)
	r.want(r.do("PUT", "/api/v1/campaigns/Support%3C-/dispositions", sup, `[{"campaign":"Support<-","l1":"Pending"}]`), 204)
	got := decode[[]api.Disposition](t, r.want(r.do("GET", "/api/v1/campaigns/Support%3C-/dispositions", ana, nil), 200))
	if len(got) != 1 || got[0].L1 != "Pending" {
		t.Errorf("%+v", got)
	}
	r.want(r.do("PUT", "/api/v1/campaigns/Support%3C-", ana, map[string]any{"name": "Support<-"}), 403)
}

func TestStateIsExportedAndApplied(t *testing.T) {
	r := newRig(t)
	s := decode[api.State](t, r.want(r.do("GET", "/api/v1/state", r.admin, nil), 200))
	d := decode[api.Diff](t, r.want(r.do("PUT", "/api/v1/state?dryRun=true&prune=true", r.admin, s), 200))
	if len(d.Changes) != 0 || !d.DryRun {
		t.Errorf("%+v", d)
	}
	p := r.want(r.do("PUT", "/api/v1/state", r.admin, `{"users":[{"username":"x","extension":"2101"}]}`), 422).problem(t)
	if len(p.Errors) != 1 || p.Errors[0].Location != "body.users[0].extension" {
		t.Errorf("%+v", p)
	}
	r.want(r.do("PUT", "/api/v1/state", r.token(auth.ScopeRead, auth.ScopeWrite, auth.ScopeCalls), s), 403)
}

func TestApplyAndExportCommandsOverHTTP(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	token, file := filepath.Join(dir, "token"), filepath.Join(dir, "state.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(token, r.token(auth.ScopeAdmin)+"\n")
	run := func(cmd *cobra.Command, args ...string) (string, error) {
		t.Helper()
		var out strings.Builder
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetArgs(append(args, "--server", r.srv.URL, "--token-file", token))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	write(file, "users:\n  - {username: carla, extension: 2105, roles: [agent], password: Rio-Negro-99}\n")
	for _, step := range []struct{ args, want string }{
		{"--dry-run", "+ user carla"},
		{"--dry-run", "would add 1, change 0, delete 0"},
		{"", "added 1, changed 0, deleted 0"},
		{"", "nothing to change"},
	} {
		out, err := run(apply.Command(), append([]string{"-f", file}, strings.Fields(step.args)...)...)
		if err != nil || !strings.Contains(out, step.want) || strings.Contains(out, "Rio-Negro") {
			t.Errorf("%s: %q %v", step.args, out, err)
		}
	}
	write(file, "users:\n  - username: dora\n    extension: \"2105\"\n")
	if _, err := run(apply.Command(), "-f", file); err == nil || !strings.Contains(err.Error(), file+":3: users[0].extension: 2105 belongs to") {
		t.Errorf("got %v", err)
	}
	out, err := run(apply.ExportCommand())
	if err != nil || !strings.Contains(out, "username: carla") || strings.Contains(out, "argon2") {
		t.Errorf("%s %v", out, err)
	}
	write(file, out)
	if out, err := run(apply.Command(), "-f", file, "--prune"); err != nil || !strings.Contains(out, "nothing to change") {
		t.Errorf("%s %v", out, err)
	}
}

func TestAgentsSteerThemselvesAndSupervisorsOthers(t *testing.T) {
	r := newRig(t)
	ana, ben, sup := r.session("ana"), r.session("ben"), r.session("sup")
	r.want(r.do("POST", "/api/v1/agents/me/sign-in", ana, api.AgentSignIn{Endpoint: "app"}), 200)
	if v := decode[api.Agent](t, r.want(r.do("POST", "/api/v1/agents/me/break", ana, api.Break{Motive: "Lunch"}), 200)); v.State != "onBreak" || v.Reason != "Lunch" {
		t.Errorf("%+v", v)
	}
	r.want(r.do("POST", "/api/v1/agents/ana/unbreak", ben, nil), 403)
	r.want(r.do("POST", "/api/v1/agents/ana/unbreak", sup, nil), 200)
	if r.stream.audits("agent unbreak") != 1 {
		t.Error("a supervisor's act is not audited")
	}
	if p := r.want(r.do("POST", "/api/v1/agents/me/unbreak", ana, nil), 409).problem(t); p.Code != "not_on_break" {
		t.Error(p.Code)
	}
	r.want(r.do("POST", "/api/v1/agents/me/finish-wrap-up", ana, nil), 409)
	r.want(r.do("GET", "/api/v1/agents", ana, nil), 403)
	if got := decode[[]api.Agent](t, r.want(r.do("GET", "/api/v1/agents", sup, nil), 200)); len(got) != 1 || got[0].FullName != "" && got[0].Agent != "ana" {
		t.Errorf("%+v", got)
	}
	r.want(r.do("POST", "/api/v1/agents/me/sign-out", ana, api.AgentSignOut{Message: "bye"}), 200)
	r.want(r.do("POST", "/api/v1/agents/me/sign-in", sup, api.AgentSignIn{Endpoint: "app"}), 409)
}

func TestCallsAreSeenAndEndedByThoseWhoMay(t *testing.T) {
	r := newRig(t)
	ana, ben, sup := r.session("ana"), r.session("ben"), r.session("sup")
	r.calls.live = []api.Call{{ID: "call-1", Agent: "ana"}, {ID: "call-2", Ringing: []string{"ben"}}}
	if got := decode[[]api.Call](t, r.do("GET", "/api/v1/calls", ana, nil)); len(got) != 1 || got[0].ID != "call-1" {
		t.Errorf("%+v", got)
	}
	r.want(r.do("GET", "/api/v1/calls/call-1", ben, nil), 404)
	r.want(r.do("DELETE", "/api/v1/calls/call-1", ben, nil), 404)
	r.want(r.do("DELETE", "/api/v1/calls/call-1", ana, nil), 204)
	r.want(r.do("DELETE", "/api/v1/calls/call-2", sup, nil), 204)
	if got := strings.Join(r.calls.hung, ","); got != "call-1 agent,call-2 system" {
		t.Error(got)
	}
	r.want(r.do("POST", "/api/v1/calls", ana, api.Dial{Number: "+598 (99) 123-456"}), 201)
	if r.calls.dialed[0] != "ana +59899123456 Sales->" {
		t.Error(r.calls.dialed)
	}
	r.want(r.do("POST", "/api/v1/calls", ana, api.Dial{Number: "sip:x@y"}), 422)
	r.want(r.do("POST", "/api/v1/calls", ben, api.Dial{Number: "123"}), 403)
	r.want(r.do("POST", "/api/v1/calls", ben, api.Dial{Number: "123", Agent: "ana"}), 403)
	r.want(r.do("PUT", "/api/v1/calls/call-1/disposition", ana, api.CallDisposition{L1: "Solved"}), 204)
	if got := decode[[]api.Queue](t, r.do("GET", "/api/v1/queues", ana, nil)); len(got) != 1 || got[0].Name != "Support<-" {
		t.Errorf("%+v", got)
	}
}

func TestReportsArePagedAndFiltered(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/queue-log", "/cdr", "/call-quality", "/call-dispositions", "/audit", "/recordings"} {
		if got := decode[api.Page[json.RawMessage]](t, r.want(r.do("GET", "/api/v1"+path+"?from=2026-01-01&limit=5", r.admin, nil), 200)); got.Rows == nil {
			t.Errorf("%s: rows are null", path)
		}
		for _, q := range []string{"from=yesterday", "limit=0", "limit=100000", "after=-1", "from=2026-02-01&to=2026-01-01"} {
			r.want(r.do("GET", "/api/v1"+path+"?"+q, r.admin, nil), 422)
		}
	}
}

func TestRecordingsAreHeardByThoseAllowedAndThatIsAudited(t *testing.T) {
	r := newRig(t)
	r.reports.recordings = []report.RecordingRow{
		{GUID: "g1", Path: "a.wav", FinishedAt: time.Now()},
		{GUID: "g2", Path: "gone.wav", FinishedAt: time.Now()},
		{GUID: "g3", Path: "a.wav"},
	}
	sup := r.session("sup")
	a := r.want(r.do("GET", "/api/v1/recordings/g1/audio", sup, nil), 200)
	if string(a.body) != "RIFF0123456789" || a.head.Get("Content-Type") != "audio/wav" {
		t.Errorf("%q %v", a.body, a.head)
	}
	if a := r.want(r.do("GET", "/api/v1/recordings/g1/audio", sup, nil, "Range", "bytes=4-7"), 206); string(a.body) != "0123" {
		t.Errorf("%q", a.body)
	}
	r.want(r.do("GET", "/api/v1/recordings/g1/audio?format=ogg", sup, nil), 422)
	r.want(r.do("GET", "/api/v1/recordings/g2/audio", sup, nil), 410)
	r.want(r.do("GET", "/api/v1/recordings/g3/audio", sup, nil), 409)
	r.want(r.do("GET", "/api/v1/recordings/g9/audio", sup, nil), 404)
	r.want(r.do("GET", "/api/v1/recordings/g1/audio", r.session("ana"), nil), 403)
	if n := r.stream.audits("recording heard"); n != 2 {
		t.Errorf("%d audits", n)
	}
}

func TestAPITokensWork(t *testing.T) {
	r := newRig(t)
	tok := decode[api.Token](t, r.want(r.do("POST", "/api/v1/tokens", r.admin, `{"name":"wallboard","scopes":["read"]}`), 201))
	r.want(r.do("GET", "/api/v1/calls", tok.Token, nil), 200)
	r.want(r.do("POST", "/api/v1/tokens", tok.Token, `{"name":"more","scopes":["admin"]}`), 403)
	r.want(r.do("DELETE", "/api/v1/tokens/"+tok.ID, r.admin, nil), 204)
	r.want(r.do("GET", "/api/v1/calls", tok.Token, nil), 401)
}

func TestAdminTokenComesFromThisMachineOnly(t *testing.T) { // rules of safety 8
	r := newRig(t)
	if err := r.auth.RotateAdminToken(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"X-Forwarded-For", "Forwarded"} {
		if a := r.do("GET", "/api/v1/state", "cba_x", nil, f, "192.0.2.1"); a.status != http.StatusUnauthorized {
			t.Error(a.status)
		}
	}
}

func TestNoSecretReachesTheLog(t *testing.T) {
	r := newRig(t)
	s := decode[api.Session](t, r.want(r.do("POST", "/api/v1/sessions", "", api.SignIn{Username: "ana", Password: pw, Phone: true}), 201))
	r.do("GET", "/api/v1/events?token="+s.Token, "", nil)
	r.do("POST", "/api/v1/sessions", "", `{"username":["`+pw+`"],"password":{"x":"`+pw+`"}}`)
	a := r.do("POST", "/api/v1/sessions", "", `{"username":"ana","password":["`+pw+`"]}`)
	if strings.Contains(string(a.body), pw) {
		t.Error("a wrong value is repeated to the client")
	}
	for _, secret := range []string{pw, s.Token, s.SIP.Password, s.ICEServers[1].Credential} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func TestSecurityHeaders(t *testing.T) { // SEC-14, SEC-16
	r := newRig(t)
	a := r.do("GET", "/healthz", "", nil, "Origin", "https://evil.example")
	for k, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Access-Control-Allow-Origin": "",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Strict-Transport-Security": "",
	} {
		if got := a.head.Get(k); got != want {
			t.Errorf("%s: %q", k, got)
		}
	}
}
