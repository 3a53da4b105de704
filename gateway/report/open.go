package report

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// The kinds of open items.
const (
	itemCall      = "call"
	itemEntry     = "entry"
	itemAgent     = "agent"
	itemRecording = "recording"
	itemAlive     = "alive"
)

// openLeg is a far party that rings or talks.
type openLeg struct {
	Agent      string    `json:"agent,omitempty"`
	At         time.Time `json:"at"`
	AnsweredAt time.Time `json:"answeredAt,omitzero"`
}

// openCall is a call that has not ended.
type openCall struct {
	At         time.Time           `json:"at"`
	Start      event.CallStarted   `json:"start"`
	AnsweredAt time.Time           `json:"answeredAt,omitzero"`
	Agent      string              `json:"agent,omitempty"`
	Legs       map[string]*openLeg `json:"legs,omitempty"`
	LegsEnded  int                 `json:"legsEnded,omitempty"`
	OutEnded   bool                `json:"outEnded,omitempty"`
	Queued     bool                `json:"queued,omitempty"`
	Recorded   bool                `json:"recorded,omitempty"`
}

// leg returns the call's leg, which is new when its ringing was not seen.
func (c *openCall) leg(id, agent string, at time.Time) *openLeg {
	l := c.Legs[id]
	if l == nil {
		l = &openLeg{Agent: agent, At: at}
		if c.Legs == nil {
			c.Legs = map[string]*openLeg{}
		}
		c.Legs[id] = l
	}
	return l
}

// number is the customer's number.
func (c *openCall) number() string {
	if c.Start.Direction == event.Outbound {
		return c.Start.To
	}
	return c.Start.From
}

// openEntry is a caller in a queue, or with the agent who took them.
type openEntry struct {
	At          time.Time `json:"at"`
	Queue       string    `json:"queue"`
	Caller      string    `json:"caller"`
	Position    int       `json:"position"`
	Agent       string    `json:"agent,omitempty"`
	LegID       string    `json:"legId,omitempty"`
	ConnectedAt time.Time `json:"connectedAt,omitzero"`
	HoldSeconds int64     `json:"holdSeconds,omitempty"`
}

// spell is a time that an agent is in: a break or a pause.
type spell struct {
	At      time.Time `json:"at"`
	Reason  string    `json:"reason"`
	Comment string    `json:"comment,omitempty"`
}

// openAgent is what is going on with an agent.
type openAgent struct {
	At        time.Time            `json:"at,omitzero"` // of the sign-in
	SignIn    *event.AgentSignedIn `json:"signIn,omitempty"`
	Break     *spell               `json:"break,omitempty"`
	Pause     *spell               `json:"pause,omitempty"`
	WrapUp    *event.WrapUpStarted `json:"wrapUp,omitempty"`
	WrapUpEnd time.Time            `json:"wrapUpEnd,omitzero"`
}

func (a *openAgent) idle() bool {
	return a.SignIn == nil && a.Break == nil && a.Pause == nil && a.WrapUp == nil
}

// openRecording is a recording whose file is not complete.
type openRecording struct {
	At    time.Time              `json:"at"`
	Start event.RecordingStarted `json:"start"`
}

// state is everything that is open.
type state struct {
	calls      map[string]*openCall
	entries    map[string]*openEntry
	agents     map[string]*openAgent
	recordings map[string]*openRecording // by path
	alive      time.Time                 // last sign of life of a gateway
}

// load makes the state of what the store has kept.
func load(items []OpenItem) (*state, error) {
	s := &state{
		calls: map[string]*openCall{}, entries: map[string]*openEntry{},
		agents: map[string]*openAgent{}, recordings: map[string]*openRecording{},
	}
	for _, it := range items {
		var err error
		switch it.Kind {
		case itemCall:
			err = into(s.calls, it)
		case itemEntry:
			err = into(s.entries, it)
		case itemAgent:
			err = into(s.agents, it)
		case itemRecording:
			err = into(s.recordings, it)
		case itemAlive:
			err = json.Unmarshal(it.Doc, &s.alive)
		}
		if err != nil {
			return nil, fmt.Errorf("decode open %s %q: %w", it.Kind, it.Key, err)
		}
	}
	return s, nil
}

func into[T any](m map[string]*T, it OpenItem) error {
	v := new(T)
	m[it.Key] = v
	return json.Unmarshal(it.Doc, v)
}

// keep returns the item that stores v, or its deletion when v is nil.
func keep[T any](kind, key string, v *T) (OpenItem, error) {
	if v == nil {
		return OpenItem{Kind: kind, Key: key}, nil
	}
	doc, err := json.Marshal(v)
	if err != nil {
		return OpenItem{}, fmt.Errorf("encode open %s %q: %w", kind, key, err)
	}
	return OpenItem{Kind: kind, Key: key, Doc: doc}, nil
}
