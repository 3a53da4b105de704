package rest_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/event"
)

type client struct {
	t  *testing.T
	ws *websocket.Conn
}

// dial connects; status is that of the handshake.
func (r *rig) dial(query string, head http.Header, protocols ...string) (c *client, status int, err error) {
	r.t.Helper()
	d := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: 5 * time.Second}
	ws, resp, err := d.DialContext(r.t.Context(), "ws"+strings.TrimPrefix(r.srv.URL, "http")+"/api/v1/events"+query, head)
	if resp != nil {
		status = resp.StatusCode
		_ = resp.Body.Close()
	}
	if err != nil {
		return nil, status, err
	}
	r.t.Cleanup(func() { _ = ws.Close() })
	return &client{r.t, ws}, status, nil
}

func (r *rig) follow(token, query string) *client {
	r.t.Helper()
	c, _, err := r.dial(query, http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (c *client) next() (api.Event, error) {
	var e api.Event
	_ = c.ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	err := c.ws.ReadJSON(&e)
	return e, err
}

// until reads to an event of the type and returns the types before it.
func (c *client) until(kind string) (seen []string, last api.Event) {
	c.t.Helper()
	for {
		e, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for %s after %v: %v", kind, seen, err)
		}
		if e.Type == kind {
			return seen, e
		}
		seen = append(seen, e.Type)
	}
}

func (r *rig) fact(p ...event.Payload) {
	r.t.Helper()
	if err := r.stream.Append(r.t.Context(), time.Now(), p...); err != nil {
		r.t.Fatal(err)
	}
}

func closeCode(err error) int {
	if ce, ok := err.(*websocket.CloseError); ok { //nolint:errorlint // what gorilla returns
		return ce.Code
	}
	return 0
}

func TestEventsResumeWithoutLossAndInOrder(t *testing.T) {
	r := newRig(t)
	c := r.follow(r.admin, "")
	_, ready := c.until(api.EventReady)
	for i := range 50 {
		r.fact(event.CallStarted{CallID: strconv.Itoa(i)})
	}
	var last uint64
	for i := range 20 {
		e, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		var d event.CallStarted
		if err := json.Unmarshal(e.Data, &d); err != nil || d.CallID != strconv.Itoa(i) || e.Type != "call.started" || e.Time.IsZero() {
			t.Fatalf("%+v %v", e, err)
		}
		last = e.Seq
	}
	_ = c.ws.Close()
	for i := range 50 {
		r.fact(event.CallStarted{CallID: strconv.Itoa(50 + i)})
	}
	c = r.follow(r.admin, "?since="+strconv.FormatUint(last, 10))
	for i := 20; i < 100; i++ {
		e, err := c.next()
		if err == nil && e.Type == api.EventReady { // once it has what there was
			i--
			continue
		}
		var d event.CallStarted
		if err != nil || json.Unmarshal(e.Data, &d) != nil || d.CallID != strconv.Itoa(i) || e.Seq <= last {
			t.Fatalf("%d: %+v %v", i, e, err)
		}
		last = e.Seq
	}
	// from the very beginning, older than the ring
	c = r.follow(r.admin, "?since=0")
	seen, _ := c.until(api.EventReady)
	if uint64(len(seen)) != last || ready.Seq == 0 {
		t.Errorf("%d of %d", len(seen), last)
	}
}

func TestEventsOfFactsThatAreGone(t *testing.T) {
	r := newRig(t)
	for range 10 {
		r.fact(event.CallStarted{CallID: "x"})
	}
	r.stream.mu.Lock()
	r.stream.first = 9
	r.stream.mu.Unlock()
	for _, since := range []string{"3", "999999"} {
		c := r.follow(r.admin, "?since="+since)
		if e, err := c.next(); err != nil || e.Type != api.EventReset || e.Seq != r.stream.Last() {
			t.Errorf("since %s: %+v %v", since, e, err)
		}
	}
}

func TestAgentsSeeThemselvesAndTheirCampaigns(t *testing.T) {
	r := newRig(t)
	ana, sup := r.follow(r.session("ana"), ""), r.follow(r.session("sup"), "")
	ana.until(api.EventReady)
	sup.until(api.EventReady)
	r.fact(
		event.QueueEntered{CallID: "1", Queue: "Support<-"},
		event.QueueEntered{CallID: "2", Queue: "Other<-"},
		event.AgentState{Agent: "ben", State: "available"},
		event.AgentState{Agent: "ana", State: "available"},
		event.Audit{User: "ana", Action: "x"},
		event.Alarm{Name: "disk"},
		event.CallStarted{CallID: "end", Campaign: "Support<-"},
	)
	seen, _ := ana.until("call.started")
	if got := strings.Join(seen, " "); got != "queue.entered agent.state" {
		t.Errorf("ana sees %s", got)
	}
	seen, _ = sup.until("call.started")
	if got := strings.Join(seen, " "); got != "queue.entered queue.entered agent.state agent.state alarm" {
		t.Errorf("the supervisor sees %s", got)
	}
}

func TestEventTokensByEveryWay(t *testing.T) {
	r := newRig(t)
	c, _, err := r.dial("", nil, "cordboard.v1", "bearer."+r.admin)
	if err != nil || c.ws.Subprotocol() != "cordboard.v1" {
		t.Fatal(err)
	}
	c.until(api.EventReady)
	if c, _, err = r.dial("?token="+r.admin, nil); err != nil {
		t.Fatal(err)
	}
	c.until(api.EventReady)
	if c, _, err = r.dial("", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.ws.WriteJSON(map[string]string{"token": r.admin}); err != nil {
		t.Fatal(err)
	}
	c.until(api.EventReady)
	if c, _, err = r.dial("", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.ws.WriteJSON(map[string]string{"token": "wrong"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.next(); closeCode(err) != api.CloseUnauthorized {
		t.Errorf("wrong first message: %v", err)
	}
	if _, status, err := r.dial("?token=wrong", nil); err == nil || status != 401 {
		t.Errorf("wrong token: %v", err)
	}
	if _, status, err := r.dial("?since=x", nil); err == nil || status != 422 {
		t.Errorf("wrong since: %v", err)
	}
	if _, status, err := r.dial("", http.Header{"Origin": {"https://evil.example"}, "Authorization": {"Bearer " + r.admin}}); err == nil || status != 403 {
		t.Errorf("foreign page: %v", err)
	}
	if err := check(r.do("GET", "/api/v1/events", r.admin, nil), 426); err != nil {
		t.Error(err)
	}
	c, _, err = r.dial("", http.Header{"Authorization": {"Bearer " + r.token(auth.ScopeRecordings)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.next(); closeCode(err) != api.CloseForbidden {
		t.Errorf("wrong scope: %v", err)
	}
}

func TestEventsEndWithTheSession(t *testing.T) {
	r := newRig(t)
	token := r.session("ana")
	c := r.follow(token, "")
	c.until(api.EventReady)
	r.want(r.do("DELETE", "/api/v1/sessions/current", token, nil), 204)
	for {
		if _, err := c.next(); err != nil {
			if closeCode(err) != api.CloseEnded {
				t.Errorf("got %v", err)
			}
			return
		}
	}
}

// A client that does not read is told and closed, and holds nobody up.
func TestSlowEventClientIsToldAndClosed(t *testing.T) {
	r := newRig(t)
	slow, quick := r.follow(r.admin, ""), r.follow(r.admin, "")
	slow.until(api.EventReady)
	quick.until(api.EventReady)
	blob := strings.Repeat("x", 4000)
	sent := 0
	for range 20 {
		batch := make([]event.Payload, 1000)
		for i := range batch {
			batch[i] = event.CallStarted{CallID: blob}
		}
		r.fact(batch...)
		sent += len(batch)
		for range batch {
			if _, err := quick.next(); err != nil {
				t.Fatalf("the quick client is held up after %d: %v", sent, err)
			}
		}
	}
	got := 0
	for {
		e, err := slow.next()
		if err != nil {
			// where not even the close frame could be written, there is none
			if code := closeCode(err); code != api.CloseLagging && code != websocket.CloseAbnormalClosure {
				t.Errorf("after %d: %v", got, err)
			}
			break
		}
		if e.Type == api.EventLagging && e.Seq == 0 {
			t.Error("the client is not told where to resume")
		}
		got++
	}
	if got >= sent {
		t.Error("the client was not slow: the test proves nothing")
	}
}
