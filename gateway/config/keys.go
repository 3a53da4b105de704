package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// EnvPrefix begins the name of every environment variable of the gateway.
const EnvPrefix = "CORDBOARD_"

// Key describes one setting, for documentation and for `check`.
type Key struct {
	Path    string // sip.udp
	Env     string // CORDBOARD_SIP_UDP
	Default string
	Doc     string
}

// Keys lists all settings in the order of the file.
func Keys() []Key {
	d := Default()
	fs := fields()
	out := make([]Key, len(fs))
	for i, f := range fs {
		out[i] = Key{Path: f.path, Env: envName(f.path), Default: f.get(d), Doc: f.doc}
	}
	return out
}

func envName(path string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// field is one scalar key: how it is read from and written as text.
type field struct {
	path string
	doc  string
	set  func(*Config, string) error
	get  func(*Config) string
	// plain values are written without quotes (numbers, booleans).
	plain bool
}

// fields is the one list of all keys.
func fields() []field {
	return []field{
		text("data", "folder of everything that the gateway keeps", required, func(c *Config) *string { return &c.Data }),
		text("http.listen", "UI, API, events and SIP over WebSocket; http://LOOPBACK:PORT for plain HTTP", httpAddress, func(c *Config) *string { return &c.HTTP.Listen }),
		text("http.tls.cert", "PEM file with the certificate chain; empty with an empty acme = self-signed, kept in data", free, func(c *Config) *string { return &c.HTTP.TLS.Cert }),
		text("http.tls.key", "PEM file with the private key", free, func(c *Config) *string { return &c.HTTP.TLS.Key }),
		text("http.tls.acme", "host name for which a certificate is fetched", hostName, func(c *Config) *string { return &c.HTTP.TLS.ACME }),
		text("sip.udp", "SIP over UDP", address, func(c *Config) *string { return &c.SIP.UDP }),
		text("sip.tcp", "SIP over TCP", address, func(c *Config) *string { return &c.SIP.TCP }),
		text("sip.tls", "SIP over TLS", address, func(c *Config) *string { return &c.SIP.TLS }),
		text("sip.wss", "SIP over secure WebSocket, beside /ws of http.listen", address, func(c *Config) *string { return &c.SIP.WSS }),
		text("sip.realm", "realm of digest authentication; a change makes device secrets invalid", realm, func(c *Config) *string { return &c.SIP.Realm }),
		seconds("sip.session_expires", "session timer in seconds (RFC 4028), 90 at least, 0 = off", func(c *Config) *time.Duration { return &c.SIP.SessionExpires }),
		text("turn.udp", "STUN and TURN over UDP", address, func(c *Config) *string { return &c.TURN.UDP }),
		text("turn.tcp", "TURN over TCP", address, func(c *Config) *string { return &c.TURN.TCP }),
		text("turn.tls", "TURN over TLS", address, func(c *Config) *string { return &c.TURN.TLS }),
		text("turn.realm", "realm of TURN credentials", realm, func(c *Config) *string { return &c.TURN.Realm }),
		addr("turn.public_ip", "address at which clients reach TURN; empty = media.public_ip", func(c *Config) *netip.Addr { return &c.TURN.PublicIP }),
		addr("media.public_ip", "address put into session descriptions; empty = that of the default route", func(c *Config) *netip.Addr { return &c.Media.PublicIP }),
		text("media.webrtc_udp", "the one UDP port of all WebRTC media", address, func(c *Config) *string { return &c.Media.WebRTCUDP }),
		{
			path: "media.rtp_ports", doc: "UDP ports of trunk and desk-phone media, FIRST-LAST",
			set: func(c *Config, s string) error { return c.Media.RTPPorts.UnmarshalText([]byte(s)) },
			get: func(c *Config) string { return c.Media.RTPPorts.String() },
		},
		{
			path: "media.agent_codec", doc: "auto (G.711 passed through on private networks, Opus elsewhere), opus, g711",
			set: func(c *Config, s string) error {
				switch a := AgentCodec(s); a {
				case CodecAuto, CodecOpus, CodecG711:
					c.Media.AgentCodec = a
					return nil
				default:
					return errors.New("must be auto, opus or g711")
				}
			},
			get: func(c *Config) string { return string(c.Media.AgentCodec) },
		},
		text("database.url", "postgres://…; empty = SQLite in data", schemes("postgres", "postgresql"), func(c *Config) *string { return &c.Database.URL }),
		text("nats.url", "nats://… or tls://…, several with commas; empty = embedded", natsURLs, func(c *Config) *string { return &c.NATS.URL }),
		text("recordings.url", "s3://…; empty = data/recordings", schemes("s3", "file"), func(c *Config) *string { return &c.Recordings.URL }),
		text("journal.sync", "always, or the longest time between two syncs to disk", syncMode, func(c *Config) *string { return &c.Journal.Sync }),
		duration("auth.session_idle", "a session unused for so long ends", time.Minute, 365*24*time.Hour, func(c *Config) *time.Duration { return &c.Auth.SessionIdle }),
		duration("auth.session_max", "every session ends at this age", time.Minute, 365*24*time.Hour, func(c *Config) *time.Duration { return &c.Auth.SessionMax }),
		number("auth.lock_after", "wrong passwords in a row that block an account, 0 = never (guessing is slowed down anyway)", 0, 1000, func(c *Config) *int { return &c.Auth.LockAfter }),
		number("auth.password_min_length", "shortest new password", 8, 128, func(c *Config) *int { return &c.Auth.PasswordMinLength }),
		boolean("auth.password_lower", "a new password has a lower-case letter", func(c *Config) *bool { return &c.Auth.PasswordLower }),
		boolean("auth.password_upper", "a new password has a capital letter", func(c *Config) *bool { return &c.Auth.PasswordUpper }),
		boolean("auth.password_digit", "a new password has a digit", func(c *Config) *bool { return &c.Auth.PasswordDigit }),
		boolean("auth.password_special", "a new password has another character", func(c *Config) *bool { return &c.Auth.PasswordSpecial }),
		text("log.level", "debug, info, warn, error", oneOf("debug", "info", "warn", "error"), func(c *Config) *string { return &c.Log.Level }),
		text("log.format", "json, text", oneOf("json", "text"), func(c *Config) *string { return &c.Log.Format }),
		text("timezone", "IANA name for schedules without one and for the log tables", timezone, func(c *Config) *string { return &c.Timezone }),
		text("country", "ISO 3166 code of numbers without a country code", country, func(c *Config) *string { return &c.Country }),
		duration("drain", "how long live calls may go on after SIGTERM", 0, 24*time.Hour, func(c *Config) *time.Duration { return &c.Drain }),
		duration("reattach", "how long a call is kept for an agent who was lost in it", time.Second, 10*time.Minute, func(c *Config) *time.Duration { return &c.Reattach }),
	}
}

func text(path, doc string, check func(string) error, at func(*Config) *string) field {
	return field{
		path: path, doc: doc,
		set: func(c *Config, s string) error {
			if err := check(s); err != nil {
				return err
			}
			*at(c) = s
			return nil
		},
		get: func(c *Config) string { return *at(c) },
	}
}

func addr(path, doc string, at func(*Config) *netip.Addr) field {
	return field{
		path: path, doc: doc,
		set: func(c *Config, s string) error {
			if s == "" {
				*at(c) = netip.Addr{}
				return nil
			}
			ip, err := netip.ParseAddr(s)
			switch {
			case err != nil:
				return errors.New("must be an IP address or empty")
			case ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "":
				return errors.New("must be an address that others can reach")
			}
			*at(c) = ip
			return nil
		},
		get: func(c *Config) string {
			if a := *at(c); a.IsValid() {
				return a.String()
			}
			return ""
		},
	}
}

func duration(path, doc string, low, high time.Duration, at func(*Config) *time.Duration) field {
	return field{
		path: path, doc: doc,
		set: func(c *Config, s string) error {
			d, err := time.ParseDuration(s)
			if err != nil {
				return errors.New(`must be a duration such as "30m" or "1h30m"`)
			}
			if d < low || d > high {
				return fmt.Errorf("must be from %s to %s", low, high)
			}
			*at(c) = d
			return nil
		},
		get: func(c *Config) string { return at(c).String() },
	}
}

func seconds(path, doc string, at func(*Config) *time.Duration) field {
	return field{
		path: path, doc: doc, plain: true,
		set: func(c *Config, s string) error {
			n, err := strconv.Atoi(s)
			if err != nil || n < 0 || n > 86400 || (n > 0 && n < 90) {
				return errors.New("must be seconds from 90 to 86400, or 0")
			}
			*at(c) = time.Duration(n) * time.Second
			return nil
		},
		get: func(c *Config) string { return strconv.Itoa(int(*at(c) / time.Second)) },
	}
}

func number(path, doc string, low, high int, at func(*Config) *int) field {
	return field{
		path: path, doc: doc, plain: true,
		set: func(c *Config, s string) error {
			n, err := strconv.Atoi(s)
			if err != nil || n < low || n > high {
				return fmt.Errorf("must be a whole number from %d to %d", low, high)
			}
			*at(c) = n
			return nil
		},
		get: func(c *Config) string { return strconv.Itoa(*at(c)) },
	}
}

func boolean(path, doc string, at func(*Config) *bool) field {
	return field{
		path: path, doc: doc, plain: true,
		set: func(c *Config, s string) error {
			switch s {
			case "true":
				*at(c) = true
			case "false":
				*at(c) = false
			default:
				return errors.New("must be true or false")
			}
			return nil
		},
		get: func(c *Config) string { return strconv.FormatBool(*at(c)) },
	}
}
