package event

import "time"

// GatewayStarted is written once at each start, before any other fact.
type GatewayStarted struct {
	Version string `json:"version"`
	Node    string `json:"node"`
}

// AgentSignedIn is AGENTLOGIN (LOG-007).
type AgentSignedIn struct {
	Agent     string `json:"agent"`
	Extension string `json:"extension"`
	Session   string `json:"session"`
	// Endpoint is what rings: "app" or a device's name.
	Endpoint string `json:"endpoint"`
}

// AgentSignedOut is AGENTLOGOFF (LOG-008).
type AgentSignedOut struct {
	Agent        string `json:"agent"`
	Session      string `json:"session"`
	Message      string `json:"message,omitempty"`
	LoginSeconds int64  `json:"loginSeconds"`
}

// AgentState is written at each change of what an agent is doing.
type AgentState struct {
	Agent string `json:"agent"`
	// State is available, ringing, onCall, wrapUp, onBreak or offline.
	State string `json:"state"`
	// Reason is the break's motive, "no answer", or why the agent is offline.
	Reason   string `json:"reason,omitempty"`
	Previous string `json:"previous"`
	// PreviousMs is how long the previous state lasted.
	PreviousMs int64     `json:"previousMs"`
	Since      time.Time `json:"since"`
	Until      time.Time `json:"until,omitzero"` // planned end of wrap-up
	CallID     string    `json:"callId,omitempty"`
	Campaign   string    `json:"campaign,omitempty"`
	Rev        uint64    `json:"rev"`
}

// AgentPaused is REALPAUSE (LOG-018): the agent gets no calls from now on.
type AgentPaused struct {
	Agent  string `json:"agent"`
	Reason string `json:"reason"`
}

// AgentUnpaused is REALUNPAUSE (LOG-019).
type AgentUnpaused struct {
	Agent         string `json:"agent"`
	Reason        string `json:"reason"`
	PausedSeconds int64  `json:"pausedSeconds"`
}

// BreakStarted is BREAK (LOG-020).
type BreakStarted struct {
	Agent   string `json:"agent"`
	Motive  string `json:"motive"`
	Comment string `json:"comment,omitempty"`
}

// BreakEnded is UNBREAK (LOG-021).
type BreakEnded struct {
	Agent   string `json:"agent"`
	Motive  string `json:"motive"`
	Comment string `json:"comment,omitempty"`
	Seconds int64  `json:"seconds"`
}

// WrapUpStarted is written when an agent's work after a call begins.
type WrapUpStarted struct {
	Agent    string `json:"agent"`
	Campaign string `json:"campaign"`
	CallID   string `json:"callId"`
	Seconds  int64  `json:"seconds"`
}

// WrapUpFinished is the end of wrap-up; with SecondsLeft above zero it was
// ended early: FINISHWRAPUP (LOG-028).
type WrapUpFinished struct {
	Agent       string `json:"agent"`
	Campaign    string `json:"campaign"`
	CallID      string `json:"callId"`
	SecondsLeft int64  `json:"secondsLeft"`
}

// MemberAdded is ADDMEMBER (LOG-029).
type MemberAdded struct {
	Queue string `json:"queue"`
	Agent string `json:"agent"`
}

// MemberRemoved is REMOVEMEMBER (LOG-033).
type MemberRemoved struct {
	Queue string `json:"queue"`
	Agent string `json:"agent"`
}

// QueueCreated is CREATEDQUEUE (LOG-031).
type QueueCreated struct {
	Queue string `json:"queue"`
}

// QueueEntered is ENTERQUEUE (LOG-013).
type QueueEntered struct {
	CallID   string `json:"callId"`
	Queue    string `json:"queue"`
	Caller   string `json:"caller"`
	URL      string `json:"url,omitempty"`
	Position int    `json:"position"`
}

// QueueReentered is written when a call whose agent was lost is back at the
// head of its queue; its clocks go on and its entry stays the same.
type QueueReentered struct {
	CallID string `json:"callId"`
	Queue  string `json:"queue"`
}

// LeaveReason says why an entry left its queue without an agent.
type LeaveReason string

// Why an entry leaves a queue.
const (
	LeftAbandon LeaveReason = "abandon" // ABANDON
	LeftTimeout LeaveReason = "timeout" // EXITWITHTIMEOUT
	LeftEmpty   LeaveReason = "empty"   // EXITEMPTY
	LeftKey     LeaveReason = "key"     // EXITWITHKEY
	LeftClosed  LeaveReason = "closed"  // the gateway stopped: logged as ABANDON
)

// QueueLeft is ABANDON, EXITEMPTY, EXITWITHKEY or EXITWITHTIMEOUT
// (LOG-009, LOG-014 to LOG-016).
type QueueLeft struct {
	CallID           string      `json:"callId"`
	Queue            string      `json:"queue"`
	Reason           LeaveReason `json:"reason"`
	Key              string      `json:"key,omitempty"`
	Position         int         `json:"position"`
	OriginalPosition int         `json:"originalPosition"`
	WaitSeconds      int64       `json:"waitSeconds"`
	// Cause is set when the entry did not end by itself: "gateway restarted".
	Cause string `json:"cause,omitempty"`
}

// OfferMade is written when an agent is rung for an entry.
type OfferMade struct {
	CallID string `json:"callId"`
	Queue  string `json:"queue"`
	Agent  string `json:"agent"`
	// Why explains the choice for people: strategy and the value that won.
	Why string `json:"why"`
}

// OfferEnded is the end of an offer that was not taken; with outcome
// "noAnswer" it is RINGNOANSWER (LOG-017).
type OfferEnded struct {
	CallID string `json:"callId"`
	Queue  string `json:"queue"`
	Agent  string `json:"agent"`
	// Outcome is noAnswer, rejected, busy, unreachable, cancelled.
	Outcome string `json:"outcome"`
	RingMs  int64  `json:"ringMs"`
}

// QueueConnected is CONNECT (LOG-012).
type QueueConnected struct {
	CallID      string `json:"callId"`
	Queue       string `json:"queue"`
	Agent       string `json:"agent"`
	LegID       string `json:"legId"`
	HoldSeconds int64  `json:"holdSeconds"`
	RingSeconds int64  `json:"ringSeconds"`
	// Reattached says that this agent or another took the same entry again
	// after the first was lost: the entry's one CONNECT was written before.
	Reattached bool `json:"reattached,omitempty"`
}

// QueueCompleted is COMPLETEAGENT or COMPLETECALLER (LOG-010, LOG-011).
type QueueCompleted struct {
	CallID           string `json:"callId"`
	Queue            string `json:"queue"`
	Agent            string `json:"agent"`
	By               By     `json:"by"`
	HoldSeconds      int64  `json:"holdSeconds"`
	TalkSeconds      int64  `json:"talkSeconds"`
	OriginalPosition int    `json:"originalPosition"`
	// Cause is set when the call did not end normally: "gateway restarted".
	Cause string `json:"cause,omitempty"`
}

// Audit is a row of AUDITORY (LOG-152 to LOG-156): who did what, from where.
type Audit struct {
	User   string `json:"user"`
	Host   string `json:"host"`
	Action string `json:"action"`
	Object string `json:"object,omitempty"`
}

// Alarm asks for a person's attention: the disk is full, the journal stalls.
type Alarm struct {
	Name    string `json:"name"`
	Active  bool   `json:"active"`
	Message string `json:"message"`
}

// Kind implements Payload.
func (GatewayStarted) Kind() Kind { return KindGatewayStarted }

// Kind implements Payload.
func (AgentSignedIn) Kind() Kind { return KindAgentSignedIn }

// Kind implements Payload.
func (AgentSignedOut) Kind() Kind { return KindAgentSignedOut }

// Kind implements Payload.
func (AgentState) Kind() Kind { return KindAgentState }

// Kind implements Payload.
func (AgentPaused) Kind() Kind { return KindAgentPaused }

// Kind implements Payload.
func (AgentUnpaused) Kind() Kind { return KindAgentUnpaused }

// Kind implements Payload.
func (BreakStarted) Kind() Kind { return KindBreakStarted }

// Kind implements Payload.
func (BreakEnded) Kind() Kind { return KindBreakEnded }

// Kind implements Payload.
func (WrapUpStarted) Kind() Kind { return KindWrapUpStarted }

// Kind implements Payload.
func (WrapUpFinished) Kind() Kind { return KindWrapUpFinished }

// Kind implements Payload.
func (MemberAdded) Kind() Kind { return KindMemberAdded }

// Kind implements Payload.
func (MemberRemoved) Kind() Kind { return KindMemberRemoved }

// Kind implements Payload.
func (QueueCreated) Kind() Kind { return KindQueueCreated }

// Kind implements Payload.
func (QueueEntered) Kind() Kind { return KindQueueEntered }

// Kind implements Payload.
func (QueueReentered) Kind() Kind { return KindQueueReentered }

// Kind implements Payload.
func (QueueLeft) Kind() Kind { return KindQueueLeft }

// Kind implements Payload.
func (OfferMade) Kind() Kind { return KindOfferMade }

// Kind implements Payload.
func (OfferEnded) Kind() Kind { return KindOfferEnded }

// Kind implements Payload.
func (QueueConnected) Kind() Kind { return KindQueueConnected }

// Kind implements Payload.
func (QueueCompleted) Kind() Kind { return KindQueueCompleted }

// Kind implements Payload.
func (Audit) Kind() Kind { return KindAudit }

// Kind implements Payload.
func (Alarm) Kind() Kind { return KindAlarm }
