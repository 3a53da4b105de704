package api

import "time"

// The results of a check.
const (
	FindingOK   = "ok"
	FindingWarn = "warn"
	FindingFail = "fail"
)

// Finding is the result of one check of a gateway.
type Finding struct {
	Check  string `json:"check" doc:"what was looked at"`
	Status string `json:"status" enum:"ok,warn,fail"`
	Detail string `json:"detail" doc:"what was found"`
	Cure   string `json:"cure,omitempty" doc:"how to mend it"`
}

// Listener is an address at which the gateway should answer.
type Listener struct {
	Key      string `json:"key" doc:"the configuration's key"`
	Protocol string `json:"protocol" enum:"http,https,wss,sip-udp,sip-tcp,sip-tls,stun-udp,stun-tcp,stun-tls"`
	Address  string `json:"address" doc:"host:port"`
}

// TestTrunk is a trunk that has a number for test calls.
type TestTrunk struct {
	Name string `json:"name"`
}

// Examination is what a gateway finds about itself, and a phone for a few
// minutes with which its legs can be tried: it may call *43, which gives back
// what it hears, and with the header X-Cordboard-Trunk the test number of a
// trunk.
type Examination struct {
	ID         string      `json:"id"`
	ExpiresAt  time.Time   `json:"expiresAt"`
	Now        time.Time   `json:"now" doc:"the gateway's clock"`
	Version    string      `json:"version"`
	SIP        SIP         `json:"sip"`
	ICEServers []ICE       `json:"iceServers" nullable:"false"`
	Listeners  []Listener  `json:"listeners" nullable:"false"`
	TestTrunks []TestTrunk `json:"testTrunks" nullable:"false"`
	Findings   []Finding   `json:"findings" nullable:"false"`
}
