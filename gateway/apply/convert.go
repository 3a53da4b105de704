package apply

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// TrunkOf writes a trunk without its password.
func TrunkOf(t trunk.Trunk) api.Trunk {
	allow := make([]string, len(t.Allow))
	for i, p := range t.Allow {
		allow[i] = p.String()
	}
	transport, srtp := string(t.Transport), string(t.SRTP)
	codecs := slices.Clone(t.Codecs)
	if codecs == nil {
		codecs = []string{}
	}
	return api.Trunk{
		Name: t.Name, Address: &t.Address, Transport: &transport, Allow: &allow, Username: &t.Username, Register: &t.Register,
		Codecs: &codecs, SRTP: &srtp, MaxChannels: &t.MaxChannels, Priority: &t.Priority, Country: &t.Country, TestNumber: &t.TestNumber,
	}
}

// UserOf writes a user without secrets.
func UserOf(u auth.User) api.User {
	state := string(u.State)
	roles := make([]string, len(u.Roles))
	for i, r := range u.Roles {
		roles[i] = string(r)
	}
	permissions := append([]string{}, u.Permissions...)
	devices := make([]api.Device, len(u.Devices))
	for i, d := range u.Devices {
		devices[i].Name = d.Name
	}
	return api.User{
		Username: u.Username, FullName: &u.FullName, Extension: &u.Extension, Email: &u.Email, Mobile: &u.Mobile, Language: &u.Language,
		Roles: &roles, Permissions: &permissions, State: &state, MustChangePassword: &u.MustChangePassword, Devices: &devices,
	}
}

// CampaignOf writes a campaign.
func CampaignOf(c *campaign.Campaign) api.Campaign {
	direction, strategy := string(c.Direction), string(c.Strategy)
	seconds := func(d time.Duration) *int { return new(int(d / time.Second)) }
	list := func(s []string) *[]string { return new(append([]string{}, s...)) }
	members := make([]api.Member, len(c.Members))
	for i, m := range c.Members {
		members[i] = api.Member{User: m.User, Penalty: m.Penalty, Paused: m.Paused}
	}
	v := *c
	return api.Campaign{
		Name: v.Name, Channel: &v.Channel, Direction: &direction, DID: list(v.DIDs), Strategy: &strategy, Weight: &v.Weight,
		RingSeconds: seconds(v.RingTime), RetrySeconds: seconds(v.Retry), WrapUpSeconds: seconds(v.WrapUp),
		ServiceLevelSeconds: seconds(v.ServiceLevel), MaxWaitSeconds: seconds(v.MaxWait), MaxLen: &v.MaxLen,
		JoinEmpty: &v.JoinEmpty, LeaveWhenEmpty: &v.LeaveWhenEmpty, NoAnswerPause: &v.NoAnswerPause, AutoAnswer: &v.AutoAnswer,
		Record: &v.Record, RingInUse: &v.RingInUse, Schedule: list(v.Schedule.Strings()), Timezone: &v.Timezone, Language: &v.Language,
		Breaks: list(v.Breaks), Form: &v.Form, Trunk: &v.Trunk, CallerID: list(v.CallerID), Welcome: &v.Welcome,
		MusicOnHold: &v.MusicOnHold, OutOfHours: &v.OutOfHours, Members: &members,
	}
}

// DispositionOf writes a disposition.
func DispositionOf(d campaign.Disposition) api.Disposition {
	out := api.Disposition{Campaign: d.Campaign, L1: d.L1, L2: d.L2, L3: d.L3}
	if d.Action != "" {
		out.Action = &d.Action
	}
	return out
}

// overlay returns base with every field of over that is given.
func overlay[T any](base, over T) T {
	b, o := reflect.ValueOf(&base).Elem(), reflect.ValueOf(&over).Elem()
	for i := range o.NumField() {
		if f := o.Field(i); f.Kind() != reflect.Pointer || !f.IsNil() {
			b.Field(i).Set(f)
		}
	}
	return base
}

func val[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func userSpec(u api.User) auth.UserSpec {
	s := auth.UserSpec{
		Username: u.Username, FullName: val(u.FullName), Extension: val(u.Extension), Email: val(u.Email), Mobile: val(u.Mobile),
		Language: val(u.Language), Permissions: val(u.Permissions), State: auth.UserState(val(u.State)),
		MustChangePassword: val(u.MustChangePassword), Password: val(u.Password),
	}
	for _, r := range val(u.Roles) {
		s.Roles = append(s.Roles, auth.Role(r))
	}
	for _, d := range val(u.Devices) {
		s.Devices = append(s.Devices, auth.DeviceSpec{Name: d.Name, Secret: val(d.Secret)})
	}
	return s
}

// campaign makes a campaign from its full wire form.
func (p *plan) campaign(at string, in api.Campaign, base campaign.Campaign) (campaign.Campaign, bool) {
	n := len(p.wrong)
	c := base
	seconds := func(i *int) time.Duration { return time.Duration(*i) * time.Second }
	c.Name, c.Channel, c.Direction, c.Strategy, c.Weight = in.Name, *in.Channel, campaign.Direction(*in.Direction), campaign.Strategy(*in.Strategy), *in.Weight
	c.RingTime, c.Retry, c.WrapUp, c.ServiceLevel, c.MaxWait = seconds(in.RingSeconds), seconds(in.RetrySeconds), seconds(in.WrapUpSeconds), seconds(in.ServiceLevelSeconds), seconds(in.MaxWaitSeconds)
	c.MaxLen, c.JoinEmpty, c.LeaveWhenEmpty, c.NoAnswerPause = *in.MaxLen, *in.JoinEmpty, *in.LeaveWhenEmpty, *in.NoAnswerPause
	c.AutoAnswer, c.Record, c.RingInUse, c.Timezone, c.Language = *in.AutoAnswer, *in.Record, *in.RingInUse, *in.Timezone, *in.Language
	c.Breaks, c.Form, c.Trunk, c.CallerID = *in.Breaks, *in.Form, *in.Trunk, *in.CallerID
	c.Welcome, c.MusicOnHold, c.OutOfHours = *in.Welcome, *in.MusicOnHold, *in.OutOfHours
	if s, err := campaign.ParseSchedule(*in.Schedule...); err != nil {
		p.bad(at+".schedule", "%v", err)
	} else {
		c.Schedule = s
	}
	c.DIDs = nil
	for _, d := range *in.DID {
		c.DIDs = append(c.DIDs, campaign.Normalize(p.e.o.Country, d))
	}
	c.Members = nil
	for _, m := range *in.Members {
		c.Members = append(c.Members, campaign.Member{User: strings.ToLower(strings.TrimSpace(m.User)), Penalty: m.Penalty, Paused: m.Paused})
	}
	for _, e := range campaign.FieldsOf(c.Validate()) {
		p.bad(at+"."+e.Field, "%s", e.Problem)
	}
	return c, len(p.wrong) == n
}

// trunk makes a trunk from what is given and what is stored.
func (p *plan) trunk(at string, in, before api.Trunk, old trunk.Trunk) (t trunk.Trunk, secret string, ok bool) {
	n := len(p.wrong)
	in = overlay(before, in)
	t = trunk.Trunk{
		Name: in.Name, Address: val(in.Address), Transport: trunk.Transport(val(in.Transport)), Username: val(in.Username), SealedPassword: old.SealedPassword,
		Register: val(in.Register), Codecs: val(in.Codecs), SRTP: trunk.SRTP(val(in.SRTP)), MaxChannels: val(in.MaxChannels),
		Priority: val(in.Priority), Country: val(in.Country), TestNumber: val(in.TestNumber), Rev: old.Rev,
	}
	if t.Transport == "" {
		t.Transport = trunk.UDP
	}
	if t.SRTP == "" {
		t.SRTP = trunk.SRTPOff
	}
	if len(t.Codecs) == 0 {
		t.Codecs = []string{"PCMA", "PCMU"}
	}
	for i, a := range val(in.Allow) {
		prefix, err := parsePrefix(a)
		if err != nil {
			p.bad(fmt.Sprintf("%s.allow[%d]", at, i), "%v", err)
			continue
		}
		t.Allow = append(t.Allow, prefix)
	}
	if in.Password != nil {
		plain, err := p.e.o.Auth.Sealer().Unseal(TrunkPurpose, old.SealedPassword)
		if err != nil || subtle.ConstantTimeCompare(plain, []byte(*in.Password)) != 1 {
			secret = "password"
			t.SealedPassword = p.e.o.Auth.Sealer().Seal(TrunkPurpose, []byte(*in.Password))
		}
		if *in.Password == "" {
			t.SealedPassword = nil
			if secret = ""; len(old.SealedPassword) > 0 {
				secret = "password"
			}
		}
	}
	p.checkTrunk(at, t)
	return t, secret, len(p.wrong) == n
}

func (p *plan) checkTrunk(at string, t trunk.Trunk) {
	if t.Name == "" || len(t.Name) > 100 || strings.ContainsFunc(t.Name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' }) {
		p.bad(at+".name", "must be 1 to 100 bytes without control characters and slashes")
	}
	if err := hostPort(t.Address); err != nil {
		p.bad(at+".address", "%v", err)
	}
	switch t.Transport {
	case trunk.UDP, trunk.TCP, trunk.TLS:
	default:
		p.bad(at+".transport", "must be udp, tcp or tls")
	}
	switch t.SRTP {
	case trunk.SRTPOff:
	case trunk.SRTPSDES:
		if t.Transport != trunk.TLS {
			p.warnings = append(p.warnings, fmt.Sprintf("trunk %s: srtp sdes over %s sends the media keys in clear", t.Name, t.Transport))
		}
	default:
		p.bad(at+".srtp", "must be off or sdes")
	}
	seen := map[string]bool{}
	for i, c := range t.Codecs {
		if (c != "PCMA" && c != "PCMU") || seen[c] {
			p.bad(fmt.Sprintf("%s.codecs[%d]", at, i), "must be PCMA or PCMU, each once")
		}
		seen[c] = true
	}
	switch {
	case t.Register && t.Username == "":
		p.bad(at+".username", "is needed to register")
	case t.Username != "" && len(t.SealedPassword) == 0:
		p.bad(at+".password", "is needed with a username")
	}
	if t.MaxChannels < 0 || t.MaxChannels > 100_000 {
		p.bad(at+".maxChannels", "must be from 0 to 100000")
	}
	if t.Priority < 0 || t.Priority > 1000 {
		p.bad(at+".priority", "must be from 0 to 1000")
	}
	if t.Country != "" && phonenumbers.GetCountryCodeForRegion(t.Country) == 0 {
		p.bad(at+".country", "must be a country code of two capitals such as UY")
	}
	if t.TestNumber != "" && strings.Trim(t.TestNumber, "+0123456789*# ") != "" {
		p.bad(at+".testNumber", "must be a telephone number")
	}
}

func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%.60q is not an address or network such as 192.0.2.0/24", s)
	}
	return p.Masked(), nil
}

func hostPort(s string) error {
	bad := errors.New("must be a host or host:port")
	host, port := s, ""
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("must have a port from 1 to 65535")
		}
	} else if _, err := netip.ParseAddr(s); err != nil && strings.Contains(s, ":") {
		return bad
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if host == "" || len(host) > 253 || strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}) {
		return bad
	}
	return nil
}
