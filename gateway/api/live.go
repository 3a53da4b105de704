package api

import (
	"encoding/json"
	"time"
)

// Event is the envelope of /api/v1/events.
type Event struct {
	// Seq is the fact's place in the stream: a client resumes with ?since=SEQ.
	Seq  uint64          `json:"seq"`
	Time time.Time       `json:"time"`
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// Types of events that are about the connection itself; their Seq is the last
// one that the client has seen.
const (
	// EventReady is sent once the client has everything up to Seq.
	EventReady = "stream.ready"
	// EventLagging says that the client reads too slowly: the connection is
	// closed after it, with CloseLagging, and the client resumes from Seq.
	EventLagging = "stream.lagging"
	// EventReset says that the facts after the client's sequence are no longer
	// kept: it reads a snapshot over REST and goes on from Seq.
	EventReset = "stream.reset"
)

// Close codes of /api/v1/events beside those of RFC 6455.
const (
	CloseUnauthorized = 4401 // no or a wrong token
	CloseForbidden    = 4403 // the token may not read events
	CloseEnded        = 4409 // the session ended meanwhile
	CloseLagging      = 4429 // read too slowly; resume with since
)

// Agent is an agent at one moment.
type Agent struct {
	Agent      string     `json:"agent"`
	FullName   string     `json:"fullName,omitempty"`
	Extension  string     `json:"extension,omitempty"`
	SignedIn   bool       `json:"signedIn"`
	SignedInAt *time.Time `json:"signedInAt,omitempty"`
	Endpoint   string     `json:"endpoint,omitempty"`
	Reachable  bool       `json:"reachable"`
	// State is available, ringing, onCall, wrapUp, onBreak or offline.
	State       string     `json:"state"`
	Reason      string     `json:"reason,omitempty"`
	Since       time.Time  `json:"since"`
	Until       *time.Time `json:"until,omitempty"`
	Paused      bool       `json:"paused"`
	PauseReason string     `json:"pauseReason,omitempty"`
	CallID      string     `json:"callId,omitempty"`
	Campaign    string     `json:"campaign,omitempty"`
	Calls       []string   `json:"calls,omitempty"`
	Rev         uint64     `json:"rev"`
}

// AgentSignIn makes a user available as an agent.
type AgentSignIn struct {
	// Endpoint is "app" (the client's own phone) or a device's name.
	Endpoint string `json:"endpoint" minLength:"1" maxLength:"32"`
}

// AgentSignOut ends an agent's work; Message goes to the queue log.
type AgentSignOut struct {
	Message string `json:"message,omitempty" maxLength:"500"`
}

// Break asks for a break.
type Break struct {
	Motive  string `json:"motive" minLength:"1" maxLength:"100"`
	Comment string `json:"comment,omitempty" maxLength:"500"`
}

// Call is a live call.
type Call struct {
	ID        string    `json:"id"`
	Direction string    `json:"direction"`
	From      string    `json:"from"`
	FromName  string    `json:"fromName,omitempty"`
	To        string    `json:"to"`
	Trunk     string    `json:"trunk,omitempty"`
	Campaign  string    `json:"campaign,omitempty"`
	StartedAt time.Time `json:"startedAt"`
	// Phase is waiting, ringing, dialing, connected, held or kept.
	Phase       string     `json:"phase"`
	Agent       string     `json:"agent,omitempty"`
	ConnectedAt *time.Time `json:"connectedAt,omitempty"`
	Ringing     []string   `json:"ringing,omitempty"`
	Legs        []Leg      `json:"legs,omitempty"`
}

// Leg is one party's side of a live call.
type Leg struct {
	ID       string   `json:"id"`
	Side     string   `json:"side"`
	State    string   `json:"state"`
	Agent    string   `json:"agent,omitempty"`
	Trunk    string   `json:"trunk,omitempty"`
	Codec    string   `json:"codec,omitempty"`
	LossPct  float64  `json:"lossPct"`
	JitterMs float64  `json:"jitterMs"`
	RTTMs    float64  `json:"rttMs"`
	MOS      *float64 `json:"mos,omitempty"`
}

// Dial asks for an outbound call of an agent.
type Dial struct {
	Number   string `json:"number" minLength:"1" maxLength:"40" doc:"digits, with or without +"`
	Campaign string `json:"campaign,omitempty" maxLength:"100" doc:"an outbound campaign; absent = the agent's only one"`
	Agent    string `json:"agent,omitempty" maxLength:"64" doc:"whose call; absent = one's own"`
}

// Dialled names the call that a Dial made.
type Dialled struct {
	CallID string `json:"callId"`
}

// CallDisposition is the outcome that an agent gives to a call.
type CallDisposition struct {
	L1       string     `json:"l1" minLength:"1" maxLength:"200"`
	L2       string     `json:"l2,omitempty" maxLength:"200"`
	L3       string     `json:"l3,omitempty" maxLength:"200"`
	Comment  string     `json:"comment,omitempty" maxLength:"2000"`
	Tag      string     `json:"tag,omitempty" maxLength:"100"`
	Schedule *time.Time `json:"schedule,omitempty" doc:"when to call back"`
}

// Queue is a queue at one moment.
type Queue struct {
	Name string `json:"name"`
	// Open says that the schedule lets callers in now.
	Open             bool    `json:"open"`
	Entries          []Entry `json:"entries"`
	AgentsAvailable  int     `json:"agentsAvailable"`
	AgentsSignedIn   int     `json:"agentsSignedIn"`
	LongestWaitMs    int64   `json:"longestWaitMs"`
	ServiceLevelPct  float64 `json:"serviceLevelPct"`
	AnsweredToday    int64   `json:"answeredToday"`
	AbandonedToday   int64   `json:"abandonedToday"`
	ConnectedNow     int     `json:"connectedNow"`
	LongestWaitingID string  `json:"longestWaitingCallId,omitempty"`
}

// Entry is a caller in a queue.
type Entry struct {
	CallID    string    `json:"callId"`
	From      string    `json:"from"`
	Position  int       `json:"position"`
	EnteredAt time.Time `json:"enteredAt"`
	Ringing   []string  `json:"ringing,omitempty"`
	Why       string    `json:"why,omitempty"`
}
