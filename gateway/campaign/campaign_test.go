package campaign

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNormalize(t *testing.T) {
	tests := []struct{ name, country, in, want string }{
		{"plus", "", "+598 2555 0111", "59825550111"},
		{"E.164 digits of the country", "UY", "59825550111", "59825550111"},
		{"national number", "UY", "2555 0111", "59825550111"},
		{"national mobile with trunk prefix", "UY", "099 123 456", "59899123456"},
		{"another country's E.164 digits", "UY", "18885550100", "18885550100"},
		{"international prefix", "UY", "0044 20 7946 0018", "442079460018"},
		{"international prefix without country", "", "00442079460018", "442079460018"},
		{"US national", "us", "(212) 736-5000", "12127365000"},
		{"US with its code", "US", "12127365000", "12127365000"},
		{"fictional US number", "US", "5555550100", "15555550100"},
		{"extension", "UY", "2101", "2101"},
		{"emergency", "UY", "911", "911"},
		{"anonymous", "UY", "Anonymous", "anonymous"},
		{"empty", "UY", "", ""},
		{"feature code", "", "*70", "70"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Normalize(tt.country, tt.in); got != tt.want {
				t.Fatalf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func FuzzNormalize(f *testing.F) {
	f.Add("UY", "099 123 456")
	f.Add("", "+1 (212) 736-5000")
	f.Add("ZZ", "0000000000000000000000000")
	f.Fuzz(func(t *testing.T, country, in string) {
		got := Normalize(country, in)
		if again := Normalize("", "+"+got); isDigits(got) && len(got) < maxNumberText && again != got {
			t.Fatalf("%q is %q, and that with a plus sign %q", in, got, again)
		}
	})
}

func valid() Campaign {
	c := Defaults()
	c.Name, c.DIDs = "Support<-", []string{"59825550111"}
	c.Members = []Member{{User: "ana"}}
	return c
}

func TestDefaultsAreValid(t *testing.T) {
	c := valid()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestValidateNamesEachField(t *testing.T) {
	c := valid()
	c.Name, c.Channel, c.Direction, c.Strategy = " ", "fax", "both", "best"
	c.RingTime, c.Retry, c.WrapUp, c.ServiceLevel, c.MaxWait = 0, -1, -time.Second, 25*time.Hour, -1
	c.Weight, c.MaxLen, c.NoAnswerPause, c.Timezone = 5000, -1, -1, "Mars/Olympus"
	c.DIDs = []string{"+598", "1", "1"}
	c.Members = []Member{{User: ""}, {User: "ana", Penalty: -1}, {User: "ana"}}
	c.Breaks = []string{"Lunch", " ", "Lunch"}
	c.CallerID = []string{"598#1"}
	c.Schedule = Schedule{{}}
	var got []string
	for _, e := range FieldsOf(c.Validate()) {
		got = append(got, e.Field)
	}
	want := []string{
		"name", "channel", "direction", "strategy", "ringSeconds", "retrySeconds", "wrapUpSeconds", "serviceLevelSeconds", "maxWaitSeconds",
		"weight", "maxLen", "noAnswerPause", "schedule[0]", "timezone", "did[0]", "did[2]", "members[0].user", "members[1].penalty", "members[2].user",
		"breaks[1]", "breaks[2]", "callerId",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if _, ok := errors.AsType[*FieldError](c.Validate()); !ok {
		t.Fatal("no field error inside")
	}
}

func TestDirectory(t *testing.T) {
	support := valid()
	support.Breaks = []string{"Training", "Lunch"}
	sales := Defaults()
	sales.Name, sales.Direction, sales.CallerID = "Sales->", Outbound, []string{"18885550100"}
	sales.Breaks = []string{"Lunch", "Coffee"}
	sales.Members = []Member{{User: "ana"}, {User: "ben"}}
	d := NewDirectory()
	if err := d.Set([]Campaign{support, sales}, []Disposition{
		{Campaign: "Support<-", L1: "Solved"},
		{Campaign: "Support<-", L1: "Pending", L2: "Call back", Action: "SCHEDULE"},
	}); err != nil {
		t.Fatal(err)
	}
	if c, ok := d.ByDID("59825550111"); !ok || c.Name != "Support<-" { // VOICE-04
		t.Fatalf("the DID leads to %q", c.Name)
	}
	if got := d.Breaks("ana"); !slices.Equal(got, []string{"Coffee", "Lunch", "Training"}) { // AGENT-08
		t.Fatalf("ana's breaks are %q", got)
	}
	if got := d.Outbound("ana"); len(got) != 1 || got[0].Name != "Sales->" {
		t.Fatalf("ana's outbound campaigns are %v", got)
	}
	if len(d.CallerIDs("Sales->")) != 1 || d.CallerIDs("Support<-") != nil {
		t.Fatal("caller ids are wrong")
	}
	if v, err := d.Disposition("Support<-", "Pending", "Call back", ""); err != nil || v.Action != "SCHEDULE" { // DISP-02
		t.Fatalf("disposition %+v, %v", v, err)
	}
	for _, l := range [][3]string{{"Pending"}, {"Solved", "x"}, {"No"}, {""}} {
		if _, err := d.Disposition("Support<-", l[0], l[1], l[2]); err == nil {
			t.Errorf("disposition %q was taken", l)
		}
	}
	again := valid()
	again.Name = "Other<-"
	err := d.Set([]Campaign{support, again}, nil)
	if f := FieldsOf(err); len(f) != 1 || f[0].Field != "Support<-.did" {
		t.Fatalf("one DID in two campaigns: %v", err)
	}
	if len(d.All()) != 2 {
		t.Fatal("a refused set changed the directory")
	}
}

func TestValidateDispositions(t *testing.T) {
	err := ValidateDispositions([]Disposition{{Campaign: "a", L1: "x"}, {L1: "x"}, {Campaign: "a"}, {Campaign: "a", L1: "x", L3: "z"}, {Campaign: "a", L1: "x", Action: "CALL"}})
	if got := FieldsOf(err); len(got) != 4 {
		t.Fatalf("found %v", err)
	}
}
