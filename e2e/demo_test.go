//go:build e2e && linux

package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/demo"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/speech"
)

// alike is the likeness above which two stretches of speech are the same.
const alike = 0.7

// TestDemo: what `make run` starts. Customers of four languages call over SIP,
// wait, are answered by phones of the demo's agents, and the speech of both
// sides arrives: each recording is compared with what was said.
func TestDemo(t *testing.T) {
	t.Parallel()
	harness.Need(t, "espeak-ng")
	g := harness.StartDemo(t)
	facts := g.Facts(t)
	var file struct {
		Accounts []struct{ Username, Password string }
	}
	b, err := os.ReadFile(filepath.Join(g.Dir, "demo.json"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(g.Dir, "demo.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("demo.json: %v %v", info.Mode(), err)
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	passwords := map[string]string{}
	for _, a := range file.Accounts {
		passwords[a.Username] = a.Password
	}
	agentWAV := filepath.Join(g.Dir, "demo", "agent.wav")
	heard, phones := map[string]string{}, map[string]*harness.Phone{}
	first := ""
	for _, name := range []string{"ana", "bruno", "chiara"} {
		heard[name] = filepath.Join(t.TempDir(), name+".wav")
		o := harness.PhoneOptions{
			Login: name, Password: passwords[name], Play: agentWAV, Record: heard[name],
			Args: []string{"--answer", "--calls", "2", "--hangup-after", "7s"},
		}
		phones[name] = g.Phone(t, o)
	}

	said := map[string][]float64{} // by number
	people := demo.Customers()[:4]
	languages := map[string]bool{}
	for _, c := range people {
		wav, err := speech.Synthesize(t.Context(), speech.Voice{Language: c.Language, Pitch: c.Pitch}, c.Lines[0])
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "said.wav")
		if err := os.WriteFile(path, wav, 0o600); err != nil {
			t.Fatal(err)
		}
		said[c.Number] = harness.Hear(t, path).Envelope(0)
		languages[c.Language] = true
	}
	if len(languages) != 4 {
		t.Fatalf("the first customers speak %v", languages)
	}
	agent := harness.Hear(t, agentWAV).Envelope(0)
	agent = append(agent, agent...) // the phone says it again and again

	const overlap = 200 // 4 s
	for _, c := range people {
		in, e := harness.FactWithin(t, facts, 2*time.Minute, 0, func(q event.QueueEntered) bool { return q.Caller == c.Number })
		on, _ := harness.FactWithin(t, facts, 2*time.Minute, e.Seq, func(q event.QueueConnected) bool { return q.CallID == in.CallID })
		harness.FactWithin(t, facts, time.Minute, e.Seq, func(r event.RecordingFinished) bool { return r.CallID == in.CallID })
		if first == "" {
			first = on.Agent
		}
		row, rec := g.Recording(t, in.CallID, "wav")
		if row.Number != c.Number || row.Agent != on.Agent || len(rec.Channels) != 2 {
			t.Errorf("%s: recording %+v", c.Name, row)
		}
		if l, r := rec.Loud(0), rec.Loud(1); l < 3*time.Second || r < 3*time.Second {
			t.Errorf("%s: customer loud for %v, agent for %v of %v", c.Name, l, r, rec.Duration())
		}
		left := rec.Envelope(0)
		own, other := -1.0, -1.0
		for number, what := range said {
			if got := harness.Likeness(left, what, overlap); number == c.Number {
				own = got
			} else {
				other = max(other, got)
			}
		}
		t.Logf("%s (%s) on the left: likeness %.2f, the others' %.2f at most; agent on the right: %.2f",
			c.Name, c.Language, own, other, harness.Likeness(rec.Envelope(1), agent, overlap))
		if own < alike || other >= own-0.1 {
			t.Errorf("%s is not who is heard on the left", c.Name)
		}
		if got := harness.Likeness(rec.Envelope(1), agent, overlap); got < alike {
			t.Errorf("%s: agent on the right: likeness %.2f", c.Name, got)
		}
		g.QueueLog(t, harness.GUID(in.CallID), harness.Events("ENTERQUEUE", "CONNECT", "COMPLETEAGENT"))
	}
	phones[first].Close(t)
	if got := harness.Likeness(harness.Hear(t, heard[first]).Envelope(0), said[people[0].Number], overlap); got < alike {
		t.Errorf("%s's phone does not hear %s: likeness %.2f", first, people[0].Name, got)
	}
}
