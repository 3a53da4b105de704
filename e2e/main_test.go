//go:build e2e && linux

package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cordboard/cordboard/e2e/harness"
	"github.com/cordboard/cordboard/gateway/api"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// The numbers and passwords of the tests.
const (
	did      = "59825550111"
	password = "Rio-Negro-58"
	secret   = "only-for-a-sip-phone"
	customer = "59899123456"
)

// The tones: what the customer says and what the agent says. They are no
// harmonics of each other.
const (
	customerHz = 440
	agentHz    = 1130
	heldHz     = 710
)

// toneFor is longer than any call of these tests: baresip hangs up at its end.
const toneFor = time.Minute

// users is the part of a state file with agents of the tests, each with a desk
// phone: ana is 2101, bob is 2102 and so on.
func users(names ...string) string {
	var b strings.Builder
	b.WriteString("users:\n")
	for i, n := range names {
		fmt.Fprintf(&b, "  - {username: %s, fullName: %s Example, extension: \"%d\", password: %q, roles: [agent], language: en, devices: [{name: desk, secret: %q}]}\n",
			n, n, 2101+i, password, secret)
	}
	return b.String()
}

// queueOf is a campaign that takes calls: its settings as YAML, joined by
// commas, over a few usual ones.
func queueOf(settings string, members ...string) string {
	list := make([]string, 0, len(members))
	for _, m := range members {
		list = append(list, "{user: "+m+"}")
	}
	return fmt.Sprintf("campaigns:\n  - {name: \"Support<-\", channel: voice, direction: inbound, did: [%q], schedule: [\"sun-sat;00:00-23:59\"], "+
		"breaks: [Lunch, Training], %s, members: [%s]}\n", did, settings, strings.Join(list, ", "))
}

// openTrunk takes calls from 127.0.0.1.
const openTrunk = `trunks:
  - {name: carrier, address: "127.0.0.1:9", transport: udp, allow: ["127.0.0.1/32"], codecs: [PCMA, PCMU], maxChannels: 50}
`

func app(name string) harness.PhoneOptions {
	return harness.PhoneOptions{Login: name, Password: password}
}

func answering(t *testing.T, name string) harness.PhoneOptions {
	t.Helper()
	o := app(name)
	o.Args = []string{"--answer"}
	o.Play = harness.ToneFile(t, agentHz, toneFor)
	o.Record = t.TempDir() + "/heard.wav"
	return o
}

func signIn(name string) api.SignIn { return api.SignIn{Username: name, Password: password} }

// customerOf is baresip as a customer of a number who says customerHz.
func customerOf(t *testing.T, g *harness.Gateway, from string) *harness.Baresip {
	t.Helper()
	return g.Baresip(t, harness.BaresipOptions{
		Account: fmt.Sprintf("<sip:%s@%s;transport=udp>;regint=0;audio_codecs=PCMA/8000/1", from, g.UDP),
		Play:    harness.ToneFile(t, customerHz, toneFor),
	})
}

// call lets a customer call a number of ours.
func call(t *testing.T, g *harness.Gateway, who *harness.Baresip, number string) {
	t.Helper()
	who.Do(t, "dial", fmt.Sprintf("sip:%s@%s", number, g.UDP))
}

// wait lets a call go on for a while: talking takes time.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
