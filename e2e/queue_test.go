//go:build e2e && linux

package e2e_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/event"
)

// names lists the events of rows.
func names(rows []api.QueueLogRow) []string {
	out := make([]string, 0, len(rows))
	for _, r := range rows {
		out = append(out, r.Event+" "+r.Agent)
	}
	return out
}

// TestNoAnswer: an agent who does not answer is passed over after the ring
// time, and paused after the second time; the next agent gets the call.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Options{State: openTrunk + users("ana", "bob") +
		queueOf("ringSeconds: 2, retrySeconds: 1, noAnswerPause: 2, wrapUpSeconds: 0", "ana", "bob")})
	facts := g.Facts(t)
	quiet := g.Phone(t, app("ana")) // never answers
	quiet.Next(t, "registered")
	admin := g.Admin(t)
	admin.AgentIs(t, "ana", "available")
	o := answering(t, "bob")
	bob := g.Phone(t, o)
	bob.Next(t, "registered")
	who := customerOf(t, g, customer)
	var guids []string
	for i := range 2 {
		after := facts.Last()
		call(t, g, who, did)
		in, _ := harness.Fact(t, facts, after, func(q event.QueueEntered) bool { return true })
		guids = append(guids, in.CallID)
		quiet.Next(t, "incoming")
		if a := admin.AgentIs(t, "ana", "ringing"); a.CallID != in.CallID {
			t.Errorf("while ana's phone rings: %+v", a)
		}
		if e := quiet.Next(t, "ended"); e.Cause == "" {
			t.Errorf("ana's phone stops with %+v", e)
		}
		harness.Fact(t, facts, after, func(q event.QueueConnected) bool { return q.Agent == "bob" })
		if i == 0 {
			admin.AgentIs(t, "ana", "available")
		}
		wait(t, time.Second)
		who.Do(t, "hangup", "")
		bob.Next(t, "ended")
	}
	a := admin.Agent(t, "ana")
	if !a.Paused || a.PauseReason != "no answer" || a.State != "onBreak" || a.Reason != "no answer" {
		t.Errorf("after two calls without an answer: %+v", a)
	}
	for _, guid := range guids { // LOG-017
		rows := g.QueueLog(t, harness.GUID(guid), harness.Events("COMPLETECALLER"))
		if d := cmp.Diff([]string{"ENTERQUEUE ", "RINGNOANSWER ana", "CONNECT bob", "COMPLETECALLER bob"}, names(rows)); d != "" {
			t.Fatal(d)
		}
		if ms, err := strconv.Atoi(rows[1].Data[0]); err != nil || ms < 1900 || ms > 3500 {
			t.Errorf("rang for %q ms", rows[1].Data[0])
		}
		cdrs := g.CDR(t, harness.GUID(guid), func(r []api.CDRRow) bool { return len(r) >= 2 })
		if len(cdrs) != 2 || cdrs[0].Agent != "ana" || cdrs[0].Disposition != "NO ANSWER" || cdrs[1].Agent != "bob" || cdrs[1].Disposition != "ANSWERED" {
			t.Errorf("a CDR for each phone that was tried: %+v", cdrs)
		}
	}
	var back api.Agent
	admin.Do(t, http.MethodPost, "/agents/ana/unbreak", nil, &back)
	if back.State != "available" || back.Paused {
		t.Errorf("unpaused: %+v", back)
	}
	rows := g.QueueLog(t, map[string][]string{"agent": {"ana"}}, harness.Events("REALPAUSE", "REALUNPAUSE")) // LOG-018, LOG-019
	for _, r := range rows {
		if (r.Event == "REALPAUSE" || r.Event == "REALUNPAUSE") && r.Data[1] != "no answer" {
			t.Errorf("%+v", r)
		}
	}
	who.Heard(t).WantTone(t, "customer hears bob", 0, agentHz, 1500*time.Millisecond)
}

// TestRejectAndRingall: with ringall all phones ring, the first who answers
// wins and the others stop; who rejects is not rung again at once.
func TestRejectAndRingall(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Options{State: openTrunk + users("ana", "bob", "cyd") +
		queueOf("strategy: ringall, ringSeconds: 30, retrySeconds: 2, wrapUpSeconds: 0", "ana", "bob", "cyd")})
	facts := g.Facts(t)
	ana := g.Phone(t, app("ana"))
	ana.Next(t, "registered")
	desks := map[string]*harness.Baresip{}
	for i, name := range []string{"bob", "cyd"} {
		desks[name] = g.Baresip(t, harness.BaresipOptions{
			Account: fmt.Sprintf("<sip:%d@%s;transport=udp>;auth_user=%d-desk;auth_pass=%s;regint=60;answermode=manual;audio_codecs=PCMA/8000/1", 2102+i, g.UDP, 2102+i, secret),
			Play:    harness.ToneFile(t, agentHz, toneFor),
		})
		desks[name].Expect(t, "200 OK")
		in := signIn(name)
		in.Device = "desk"
		g.SignIn(t, in).AgentIs(t, "me", "available")
	}
	who := customerOf(t, g, customer)
	call(t, g, who, did)
	ana.Next(t, "incoming")
	desks["bob"].Next(t, "CALL_INCOMING")
	desks["cyd"].Next(t, "CALL_INCOMING")
	desks["bob"].Do(t, "hangup", "") // rejects
	out, _ := harness.Fact(t, facts, 0, func(o event.OfferEnded) bool { return o.Agent == "bob" })
	if out.Outcome != "rejected" {
		t.Errorf("bob's offer ended with %q", out.Outcome)
	}
	desks["cyd"].Do(t, "accept", "")
	on, _ := harness.Fact(t, facts, 0, func(q event.QueueConnected) bool { return true })
	if on.Agent != "cyd" {
		t.Errorf("connected with %s", on.Agent)
	}
	if e := ana.Next(t, "ended"); e.Text != "Call completed elsewhere" {
		t.Errorf("ana's phone stops with %+v", e)
	}
	admin := g.Admin(t)
	admin.AgentIs(t, "ana", "available")
	admin.AgentIs(t, "bob", "available")
	if a := admin.AgentIs(t, "cyd", "onCall"); a.CallID != on.CallID {
		t.Errorf("cyd talks: %+v", a)
	}
	wait(t, 1500*time.Millisecond)
	desks["cyd"].Do(t, "hangup", "")
	who.Next(t, "CALL_CLOSED")
	rows := g.QueueLog(t, harness.GUID(on.CallID), harness.Events("COMPLETEAGENT"))
	if d := cmp.Diff([]string{"ENTERQUEUE ", "CONNECT cyd", "COMPLETEAGENT cyd"}, names(rows)); d != "" {
		t.Error(d) // a reject and a lost race are no RINGNOANSWER
	}
	cdrs := g.CDR(t, harness.GUID(on.CallID), func(r []api.CDRRow) bool { return len(r) >= 3 })
	got := map[string]string{}
	for _, c := range cdrs {
		got[c.Agent] = c.Disposition
	}
	if d := cmp.Diff(map[string]string{"ana": "NO ANSWER", "bob": "BUSY", "cyd": "ANSWERED"}, got); d != "" {
		t.Error(d)
	}
	who.Heard(t).WantTone(t, "customer hears cyd", 0, agentHz, time.Second)
	desks["cyd"].Heard(t).WantTone(t, "cyd hears the customer", 0, customerHz, time.Second)
}

// TestWrapUpAndBreaks: wrap-up lasts its time unless the agent ends it; on a
// break nothing rings, callers wait in their places, and the states and their
// times are told.
func TestWrapUpAndBreaks(t *testing.T) {
	t.Parallel()
	g := harness.Start(t, harness.Options{State: openTrunk + users("ana") +
		queueOf("wrapUpSeconds: 30, serviceLevelSeconds: 1, joinEmpty: true", "ana")})
	facts := g.Facts(t)
	o := answering(t, "ana")
	phone := g.Phone(t, o)
	phone.Next(t, "registered")
	ana := g.SignIn(t, signIn("ana")) // a second session, without a phone, to steer by
	first, second := customerOf(t, g, customer), customerOf(t, g, "59899222333")

	call(t, g, first, did)
	on, _ := harness.Fact[event.QueueConnected](t, facts, 0, nil)
	wait(t, 1500*time.Millisecond)
	first.Do(t, "hangup", "")
	a := ana.AgentIs(t, "me", "wrapUp")
	if a.Until == nil || time.Until(*a.Until) > 31*time.Second || time.Until(*a.Until) < 20*time.Second || a.Campaign != "Support<-" {
		t.Errorf("wrap-up: %+v", a)
	}
	call(t, g, first, did) // waits: wrap-up
	waiting, _ := harness.Fact(t, facts, 0, func(q event.QueueEntered) bool { return q.CallID != on.CallID })
	var lunch api.Agent
	ana.Do(t, http.MethodPost, "/agents/me/break", api.Break{Motive: "Lunch", Comment: "soup"}, nil)
	ana.Do(t, http.MethodPost, "/agents/me/finish-wrap-up", nil, &lunch)
	if lunch.State != "onBreak" || lunch.Reason != "Lunch" {
		t.Errorf("break after wrap-up: %+v", lunch)
	}
	done, _ := harness.Fact[event.WrapUpFinished](t, facts, 0, nil)
	if done.SecondsLeft < 20 || done.SecondsLeft > 30 || done.CallID != on.CallID {
		t.Errorf("wrap-up finished: %+v", done)
	}
	if status, p := ana.Try(t, http.MethodPost, "/agents/me/break", api.Break{Motive: "Party"}, nil); status != http.StatusUnprocessableEntity {
		t.Errorf("a break that no campaign has: %d %v", status, p)
	}
	call(t, g, second, did)
	harness.Fact(t, facts, 0, func(q event.QueueEntered) bool { return q.Caller == "59899222333" && q.Position == 2 })
	var q api.Queue
	harness.Until(t, harness.Patience, "both callers are shown", func() bool {
		q = g.Admin(t).Queue(t, "Support<-")
		return len(q.Entries) == 2
	})
	if q.Entries[0].CallID != waiting.CallID || q.Entries[0].Position != 1 || q.Entries[1].Position != 2 || q.AgentsAvailable != 0 || q.AgentsSignedIn != 1 {
		t.Errorf("two callers wait: %+v", q)
	}
	if q.AnsweredToday != 1 || q.ServiceLevelPct != 100 {
		t.Errorf("service level after an answer at once: %+v", q)
	}
	wait(t, 1500*time.Millisecond)
	after := facts.Last()
	ana.Do(t, http.MethodPost, "/agents/me/unbreak", nil, nil)
	next, _ := harness.Fact[event.QueueConnected](t, facts, after, nil)
	if next.CallID != waiting.CallID {
		t.Errorf("who waited longest is first: %+v", next)
	}
	harness.Until(t, harness.Patience, "one caller is left", func() bool {
		q = g.Admin(t).Queue(t, "Support<-")
		return len(q.Entries) == 1 && q.AnsweredToday == 2
	})
	if q.Entries[0].Position != 1 || q.ServiceLevelPct != 50 {
		t.Errorf("the second caller moves up, and the service level falls: %+v", q)
	}
	second.Do(t, "hangup", "")
	left, _ := harness.Fact[event.QueueLeft](t, facts, after, nil)
	if left.Reason != event.LeftAbandon || left.Position != 1 || left.OriginalPosition != 2 {
		t.Errorf("abandoned: %+v", left)
	}
	first.Do(t, "hangup", "")
	ana.AgentIs(t, "me", "wrapUp")

	rows := g.QueueLog(t, map[string][]string{"agent": {"ana"}}, harness.Events("BREAK", "UNBREAK", "FINISHWRAPUP"))
	for _, r := range rows {
		switch r.Event {
		case "FINISHWRAPUP": // LOG-028
			if r.Data[0] != strconv.FormatInt(done.SecondsLeft, 10) || r.QueueName != "Support<-" {
				t.Errorf("%+v", r)
			}
		case "BREAK", "UNBREAK": // LOG-020, LOG-021
			if r.Data[0] != "Lunch" || r.Data[1] != "soup" {
				t.Errorf("%+v", r)
			}
		}
	}
	abandoned := g.QueueLog(t, harness.GUID(left.CallID), harness.Events("ABANDON")) // LOG-009
	if r := abandoned[len(abandoned)-1]; r.Data[0] != "1" || r.Data[1] != "2" || r.Data[2] != strconv.FormatInt(left.WaitSeconds, 10) {
		t.Errorf("%+v", r)
	}
	wantStates(t, facts, "ana", []string{"offline", "available", "ringing", "onCall", "wrapUp", "onBreak", "ringing", "onCall", "wrapUp"})
	first.Heard(t).WantTone(t, "customer hears ana", 0, agentHz, time.Second)
}

// wantStates compares the states that an agent went through, without
// repetitions and without the moment between break and ringing, and checks that
// the time of each one is told by the next.
func wantStates(t *testing.T, facts *harness.Facts, agent string, want []string) {
	t.Helper()
	var got []string
	var before event.AgentState
	for _, s := range harness.FactsOf[event.AgentState](t, facts) {
		if s.Agent != agent {
			continue
		}
		if before.Agent != "" {
			if s.Previous != before.State {
				t.Errorf("after %s comes a state whose previous one is %s", before.State, s.Previous)
			}
			lasted := s.Since.Sub(before.Since).Milliseconds()
			if diff := lasted - s.PreviousMs; diff < -50 || diff > 50 {
				t.Errorf("%s lasted %d ms, told %d", s.Previous, lasted, s.PreviousMs)
			}
		}
		before = s
		if n := len(got); n > 0 && (got[n-1] == s.State || (s.State == "available" && got[n-1] == "onBreak")) {
			continue
		}
		got = append(got, s.State)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestMaximumWaitAndHours: a caller who waited too long is told so and let go;
// a caller out of hours hears why.
func TestMaximumWaitAndHours(t *testing.T) {
	t.Parallel()
	day := (time.Now().UTC().Weekday() + 3) % 7 // far from now in every time zone
	closed := fmt.Sprintf("%s;00:00-23:59", []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}[day])
	g := harness.Start(t, harness.Options{State: openTrunk + users("ana") +
		queueOf("joinEmpty: true, maxWaitSeconds: 3", "ana") + fmt.Sprintf(
		"  - {name: \"Night<-\", channel: voice, direction: inbound, did: [\"59825550199\"], schedule: [%q], joinEmpty: true, members: [{user: ana}]}\n", closed)})
	facts := g.Facts(t)
	who, late := customerOf(t, g, customer), customerOf(t, g, "59899222333")
	harness.Until(t, 2*harness.Patience, "the prompts of the first start are spoken", func() bool {
		found, err := filepath.Glob(filepath.Join(g.Dir, "sounds", "out-of-hours", "en*"))
		return err == nil && len(found) > 0
	})
	call(t, g, who, did)
	call(t, g, late, "59825550199")
	in, _ := harness.Fact[event.QueueEntered](t, facts, 0, nil)
	who.Next(t, "CALL_CLOSED")
	late.Next(t, "CALL_CLOSED")
	rows := g.QueueLog(t, harness.GUID(in.CallID), harness.Events("EXITWITHTIMEOUT")) // LOG-016
	if r := rows[len(rows)-1]; r.Data[0] != "1" || r.Data[1] != "1" || (r.Data[2] != "3" && r.Data[2] != "4") {
		t.Errorf("%+v", r)
	}
	for _, q := range harness.FactsOf[event.QueueEntered](t, facts) {
		if q.Queue != "Support<-" {
			t.Errorf("a caller out of hours is in a queue: %+v", q)
		}
	}
	night := g.Admin(t).Queue(t, "Night<-")
	if night.Open {
		t.Errorf("the queue is %+v", night)
	}
	cdrs := g.CDR(t, map[string][]string{"number": {"59899222333"}}, func(r []api.CDRRow) bool { return len(r) == 1 })
	if cdrs[0].Campaign != "Night<-" || cdrs[0].Disposition == "ANSWERED" || cdrs[0].EndedBy != "system" {
		t.Errorf("CDR out of hours: %+v", cdrs[0])
	}
	if calls := g.Admin(t).Calls(t); len(calls) != 0 {
		t.Errorf("calls are left: %+v", calls)
	}
	if loud := late.Heard(t).Loud(0); loud < time.Second {
		t.Errorf("out of hours the caller hears speech for %v", loud)
	}
}
