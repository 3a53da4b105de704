package rest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
)

func TestExaminationComesWithAPhoneThatEnds(t *testing.T) {
	r := newRig(t)
	admin := r.token(auth.ScopeAdmin)
	a := r.want(r.do("POST", "/api/v1/doctor", admin, nil), http.StatusCreated)
	var e api.Examination
	if err := json.Unmarshal(a.body, &e); err != nil {
		t.Fatal(err)
	}
	if len(e.Findings) != 1 || len(e.TestTrunks) != 1 || len(e.Listeners) != 1 || !strings.HasSuffix(e.Listeners[0].Address, ":5060") ||
		strings.Contains(e.Listeners[0].Address, "HOST") {
		t.Errorf("examination %+v", e)
	}
	id, ok := r.auth.SIP(e.SIP.Username)
	if !ok || !id.Probe || id.Username != "" {
		t.Fatalf("identity %+v, %v", id, ok)
	}
	if ha1, ok := r.auth.HA1(t.Context(), e.SIP.Username); !ok || ha1 != auth.HA1(e.SIP.Username, "cordboard", e.SIP.Password) {
		t.Error("the phone's password opens nothing")
	}
	if _, ok := r.auth.TURNKey(e.ICEServers[0].Username); !ok {
		t.Error("the relay does not know the phone")
	}
	r.want(r.do("DELETE", "/api/v1/doctor/"+e.ID, admin, nil), http.StatusNoContent)
	if _, ok := r.auth.SIP(e.SIP.Username); ok {
		t.Error("the phone lives on")
	}
	if _, ok := r.auth.TURNKey(e.ICEServers[0].Username); ok {
		t.Error("the relay still knows the phone")
	}
	r.want(r.do("DELETE", "/api/v1/doctor/"+e.ID, admin, nil), http.StatusNotFound)
	for range 10 {
		r.want(r.do("POST", "/api/v1/doctor", admin, nil), http.StatusCreated)
	}
	r.want(r.do("POST", "/api/v1/doctor", admin, nil), http.StatusServiceUnavailable)
	if log := r.log.String(); strings.Contains(log, e.SIP.Password) || strings.Contains(log, e.ICEServers[0].Credential) {
		t.Error("a secret is in the log")
	}
}

func TestBackupIsStreamedAndCutWhenItFails(t *testing.T) {
	r := newRig(t)
	admin := r.token(auth.ScopeAdmin)
	get := func(query string) (string, error) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.srv.URL+"/api/v1/backup"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+admin)
		res, err := r.srv.Client().Do(req)
		if err != nil {
			return "", err
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("status %d", res.StatusCode)
		}
		b, err := io.ReadAll(res.Body)
		return string(b), err
	}
	if body, err := get(""); err != nil || body != "PK backup" {
		t.Errorf("%q, %v", body, err)
	}
	if body, err := get("?recordings=true"); err == nil {
		t.Errorf("half a backup looks like a whole one: %q", body)
	}
	if body, err := get(""); err != nil || body != "PK backup" {
		t.Errorf("after a failure: %q, %v", body, err)
	}
	if n := r.stream.audits("backup made"); n != 3 {
		t.Errorf("%d audit rows", n)
	}
}
