package doctor_test

import (
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/sip"
	"github.com/cordboard/cordboard/softphone"
)

// The phone of an examination may call the echo and test numbers, nobody else.
func TestTheDoctorsPhoneCallsNobodyElse(t *testing.T) {
	client := start(t, configuration(t))
	e, err := client.Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan softphone.Event, 100)
	aor, err := sip.ParseURI(e.SIP.AOR)
	if err != nil {
		t.Fatal(err)
	}
	phone, err := softphone.New(softphone.Config{
		Server: e.SIP.URLs[0], User: e.SIP.Username, AoR: aor.User, Domain: aor.Host, Password: e.SIP.Password, TLS: client.TLS(),
		OnEvent: func(e softphone.Event) { events <- e },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = phone.Close() })
	if err := phone.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait := func(what string, is func(softphone.Event) bool) {
		t.Helper()
		limit := time.After(20 * time.Second)
		for {
			select {
			case e := <-events:
				if is(e) {
					return
				}
			case <-limit:
				t.Fatalf("no %s", what)
			}
		}
	}
	wait("registration", func(e softphone.Event) bool { _, ok := e.(softphone.Registered); return ok })
	for _, tt := range []struct {
		to      string
		headers map[string]string
		code    int
	}{
		{"59899123456", nil, 404},
		{testNumber, nil, 404},
		{"59899123456", map[string]string{"X-Cordboard-Trunk": "untested"}, 404},
		{"59899123456", map[string]string{"X-Cordboard-Trunk": "nonsense"}, 404},
	} {
		if _, err := phone.Dial(tt.to, softphone.DialOptions{Headers: tt.headers}); err != nil {
			t.Fatal(err)
		}
		wait("end", func(e softphone.Event) bool {
			end, ok := e.(softphone.Ended)
			if ok && end.Code != tt.code {
				t.Errorf("%s %v: %d %s", tt.to, tt.headers, end.Code, end.Text)
			}
			return ok
		})
	}
	// Ended, it is nobody at once.
	if err := client.EndExamination(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Dial("*43", softphone.DialOptions{}); err == nil {
		wait("end", func(e softphone.Event) bool {
			end, ok := e.(softphone.Ended)
			if ok && end.Normal {
				t.Errorf("an ended phone called: %+v", end)
			}
			return ok
		})
	}
}
