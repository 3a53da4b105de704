package auth

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func FuzzPHC(f *testing.F) {
	f.Add(hashNow("Rio-Negro-58"))
	f.Add("$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG")
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b4dWRWJTmaaJObG")
	f.Add("$argon2id$v=19$m=,t=,p=$$")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err != nil {
			return
		}
		again, err := parsePHC(p.String())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, again, cmp.AllowUnexported(phc{})); d != "" {
			t.Fatal(d)
		}
	})
}
