package auth

import (
	"testing"
	"testing/synctest"
	"time"
)

// The phone of a test dies by itself, whoever forgot it.
func TestProbesDieByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Service
		s.probes.live = []probe{
			{id: "1", sipUser: "doctor.a", turnUser: "x", expires: time.Now().Add(probeFor)},
			{id: "2", sipUser: "doctor.b", turnUser: "y", expires: time.Now().Add(2 * probeFor)},
		}
		if _, ok := s.probeBySIP("doctor.a"); !ok {
			t.Fatal("it is not there")
		}
		time.Sleep(probeFor)
		if _, ok := s.probeBySIP("doctor.a"); ok {
			t.Error("it outlives its time")
		}
		if _, ok := s.probeByTURN("y"); !ok {
			t.Error("the other one is gone too")
		}
		if len(s.probes.live) != 1 {
			t.Errorf("%d are remembered", len(s.probes.live))
		}
		if _, ok := s.SIP("doctor.a"); ok {
			t.Error("it may still call")
		}
	})
}
