package auth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/mail"
	"regexp"
	"slices"
	"strings"
)

// UserSpec is how somebody wants a user to be.
type UserSpec struct {
	Username           string
	FullName           string
	Extension          string
	Email              string
	Mobile             string
	Language           string // empty = en
	Roles              []Role
	Permissions        []string
	State              UserState // empty = active
	MustChangePassword bool
	Password           string // empty = as it is
	Devices            []DeviceSpec
}

// DeviceSpec is a device of a UserSpec.
type DeviceSpec struct {
	Name   string
	Secret string // empty = as it is
}

// Made is what MakeUser returns.
type Made struct {
	User User
	// PasswordChanged says that the user's sessions must end.
	PasswordChanged bool
	// Changed names the fields that differ from the user before, secrets
	// included, by the names of the state file.
	Changed []string
}

const (
	maxText    = 200
	maxDevices = 20
	minSecret  = 8
)

// MakeUser checks a spec and makes the user from it and from what is stored
// (nil for a new one). It writes nothing. Absent secrets stay as they are, and a
// password that is the old one changes nothing. Errors are *RuleError.
func (s *Service) MakeUser(ctx context.Context, old *User, spec UserSpec) (Made, error) {
	if err := spec.check(); err != nil {
		return Made{}, err
	}
	var m Made
	if old != nil {
		m.User = *old
	}
	was := m.User
	u := &m.User
	u.Username, u.FullName, u.Extension, u.Email, u.Mobile = foldUsername(spec.Username), spec.FullName, spec.Extension, spec.Email, spec.Mobile
	u.Language, u.Roles, u.Permissions, u.State, u.MustChangePassword = spec.Language, spec.Roles, spec.Permissions, spec.State, spec.MustChangePassword
	if u.Language == "" {
		u.Language = "en"
	}
	if u.State == "" {
		u.State = UserActive
	}
	if err := s.makeDevices(&m, was, spec.Devices); err != nil {
		return Made{}, err
	}
	for _, c := range []struct {
		name string
		diff bool
	}{
		{"fullName", u.FullName != was.FullName},
		{"extension", u.Extension != was.Extension},
		{"email", u.Email != was.Email},
		{"mobile", u.Mobile != was.Mobile},
		{"language", u.Language != was.Language},
		{"roles", !slices.Equal(u.Roles, was.Roles)},
		{"permissions", !slices.Equal(u.Permissions, was.Permissions)},
		{"state", u.State != was.State},
		{"mustChangePassword", u.MustChangePassword != was.MustChangePassword},
	} {
		if c.diff {
			m.Changed = append(m.Changed, c.name)
		}
	}
	if spec.Password != "" {
		if err := s.makePassword(ctx, &m, was, spec.Password); err != nil {
			return Made{}, err
		}
	}
	return m, nil
}

func (s *Service) makePassword(ctx context.Context, m *Made, was User, password string) error {
	if was.PasswordHash != "" {
		same, err := s.hasher.verify(ctx, was.PasswordHash, password)
		if err != nil {
			return fmt.Errorf("compare password of %s: %w", m.User.Username, err)
		}
		if same {
			return nil
		}
	}
	if err := s.o.Rules.Check(m.User.Username, password); err != nil {
		return err
	}
	hash, err := s.hasher.hash(ctx, password)
	if err != nil {
		return fmt.Errorf("hash password of %s: %w", m.User.Username, err)
	}
	m.User.PasswordHash, m.PasswordChanged = hash, true
	m.Changed = append(m.Changed, "password")
	return nil
}

func (s *Service) makeDevices(m *Made, was User, specs []DeviceSpec) error {
	var devices []Device
	changed := len(specs) != len(was.Devices)
	for _, d := range specs {
		var old *Device
		for i := range was.Devices {
			if was.Devices[i].Name == d.Name {
				old = &was.Devices[i]
			}
		}
		// the digest user holds the extension, so a secret does not survive
		// that it changes
		keep := old != nil && was.Extension == m.User.Extension
		purpose := devicePurpose(m.User.Username, d.Name)
		if d.Secret == "" {
			if !keep {
				return &RuleError{Field: "devices", Reason: fmt.Sprintf("%q needs a secret: it is new, or the extension changes", d.Name)}
			}
			devices = append(devices, *old)
			continue
		}
		ha1 := HA1(DigestUser(m.User.Extension, d.Name), s.o.Realm, d.Secret)
		if keep {
			if plain, err := s.sealer.Unseal(purpose, old.SealedHA1); err == nil && subtle.ConstantTimeCompare(plain, []byte(ha1)) == 1 {
				devices = append(devices, *old)
				continue
			}
		}
		changed = true
		devices = append(devices, Device{Name: d.Name, SealedHA1: s.sealer.Seal(purpose, []byte(ha1))})
	}
	m.User.Devices = devices
	if changed {
		m.Changed = append(m.Changed, "devices")
	}
	return nil
}

func (spec *UserSpec) check() error {
	switch {
	case !usernameOK(spec.Username):
		return &RuleError{Field: "username", Reason: "must be 1 to 64 of a-z, 0-9, dot, dash, underscore and @, beginning with a letter or digit"}
	case spec.Extension != "" && !digits(spec.Extension, 12):
		return &RuleError{Field: "extension", Reason: "must be 1 to 12 digits"}
	case len(spec.FullName) > maxText || len(spec.Mobile) > maxText || len(spec.Email) > maxText:
		return &RuleError{Field: "fullName, mobile and email", Reason: fmt.Sprintf("may have %d bytes", maxText)}
	case spec.Language != "" && !slices.Contains([]string{"en", "es", "pt", "it"}, spec.Language):
		return &RuleError{Field: "language", Reason: "must be en, es, pt or it"}
	case len(spec.Devices) > maxDevices:
		return &RuleError{Field: "devices", Reason: fmt.Sprintf("may be %d at most", maxDevices)}
	case len(spec.Devices) > 0 && spec.Extension == "":
		return &RuleError{Field: "devices", Reason: "need an extension"}
	}
	if spec.Email != "" {
		if a, err := mail.ParseAddress(spec.Email); err != nil || a.Address != spec.Email {
			return &RuleError{Field: "email", Reason: "must be an e-mail address"}
		}
	}
	switch spec.State {
	case "", UserActive, UserInactive, UserBlocked:
	default:
		return &RuleError{Field: "state", Reason: "must be active, inactive or blocked"}
	}
	for _, r := range spec.Roles {
		switch r {
		case RoleAgent, RoleSupervisor, RoleAdmin:
		default:
			return &RuleError{Field: "roles", Reason: "must be of agent, supervisor and admin"}
		}
	}
	for _, p := range spec.Permissions {
		if !slices.Contains(AllScopes(), Scope(p)) {
			return &RuleError{Field: "permissions", Reason: fmt.Sprintf("must be of %v", AllScopes())}
		}
	}
	return spec.checkDevices()
}

func (spec *UserSpec) checkDevices() error {
	name := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,31}$`)
	seen := map[string]bool{}
	for _, d := range spec.Devices {
		switch k := strings.ToLower(d.Name); {
		case !name.MatchString(d.Name):
			return &RuleError{Field: "devices", Reason: "must have names of 1 to 32 letters, digits and dashes"}
		case seen[k]:
			return &RuleError{Field: "devices", Reason: fmt.Sprintf("name %q twice", d.Name)}
		case d.Secret != "" && (len(d.Secret) < minSecret || len(d.Secret) > maxPassword):
			return &RuleError{Field: "devices", Reason: fmt.Sprintf("must have secrets of %d characters at least", minSecret)}
		default:
			seen[k] = true
		}
	}
	return nil
}

func usernameOK(s string) bool {
	s = foldUsername(s)
	return regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,63}$`).MatchString(s)
}

func digits(s string, most int) bool {
	return len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}
