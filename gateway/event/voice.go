package event

import "time"

// Direction says who began a call.
type Direction string

// The directions of a call.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
	Internal Direction = "internal"
)

// By says which side ended something.
type By string

// Who may end a leg or a call.
const (
	ByAgent    By = "agent"
	ByCustomer By = "customer"
	BySystem   By = "system"
)

// CallStarted is written when a call exists: a customer's INVITE was accepted
// for a known DID, or an agent dialled.
type CallStarted struct {
	CallID    string    `json:"callId"`
	Direction Direction `json:"direction"`
	From      string    `json:"from"`
	FromName  string    `json:"fromName,omitempty"`
	To        string    `json:"to"`
	Trunk     string    `json:"trunk,omitempty"`
	Campaign  string    `json:"campaign,omitempty"`
	Agent     string    `json:"agent,omitempty"`
}

// CallLegRinging is written when a far party (agent or called number) rings.
type CallLegRinging struct {
	CallID string `json:"callId"`
	LegID  string `json:"legId"`
	Agent  string `json:"agent,omitempty"`
}

// CallAnswered is written when both sides of a call can hear each other.
type CallAnswered struct {
	CallID string `json:"callId"`
	LegID  string `json:"legId"`
	Agent  string `json:"agent,omitempty"`
	// SetupMs is from the answer to two-way audio, in milliseconds.
	SetupMs int64 `json:"setupMs"`
}

// CallHeld and CallUnheld are written when an agent holds a call (LOG-026).
type CallHeld struct {
	CallID   string `json:"callId"`
	Campaign string `json:"campaign,omitempty"`
	Agent    string `json:"agent"`
	Channel  string `json:"channel"`
	From     string `json:"from"`
	FromName string `json:"fromName,omitempty"`
}

// CallUnheld is the end of a hold (LOG-027).
type CallUnheld CallHeld

// CallAgentLost is written when an agent's leg is gone while the customer's is
// kept for them (contract: agent lost in a call).
type CallAgentLost struct {
	CallID   string `json:"callId"`
	Agent    string `json:"agent"`
	Campaign string `json:"campaign,omitempty"`
	Cause    string `json:"cause"`
}

// CallAgentBack is written when the agent is attached to the kept call again.
type CallAgentBack struct {
	CallID   string `json:"callId"`
	Agent    string `json:"agent"`
	Campaign string `json:"campaign,omitempty"`
	AwayMs   int64  `json:"awayMs"`
}

// CallLegEnded is one CDR: a pair of the customer's leg and a far leg that was
// tried (contract: CDR), or the customer's leg alone when nobody was tried.
type CallLegEnded struct {
	CallID     string    `json:"callId"`
	LegID      string    `json:"legId"`
	Direction  Direction `json:"direction"`
	Campaign   string    `json:"campaign,omitempty"`
	Agent      string    `json:"agent,omitempty"`
	Src        string    `json:"src"`
	SrcName    string    `json:"srcName,omitempty"`
	Dst        string    `json:"dst"`
	Channel    string    `json:"channel"`
	DstChannel string    `json:"dstChannel,omitempty"`
	// LastApp is the last thing the call did: Queue, Dial, Playback.
	LastApp    string     `json:"lastApp"`
	StartedAt  time.Time  `json:"startedAt"`
	AnsweredAt *time.Time `json:"answeredAt,omitempty"`
	EndedAt    time.Time  `json:"endedAt"`
	// Disposition is the telephony result: ANSWERED, NO ANSWER, BUSY, FAILED.
	Disposition string `json:"disposition"`
	Recorded    bool   `json:"recorded"`
	// CauseCode is the final SIP status or Q.850 cause as the far side gave it.
	CauseCode string `json:"causeCode,omitempty"`
	By        By     `json:"by"`
	Trunk     string `json:"trunk,omitempty"`
}

// CallEnded is the end of the whole call; no fact of this call follows but
// quality, recording and disposition.
type CallEnded struct {
	CallID   string `json:"callId"`
	Campaign string `json:"campaign,omitempty"`
	Agent    string `json:"agent,omitempty"`
	By       By     `json:"by"`
	Cause    string `json:"cause"`
	// DurationMs is from CallStarted, TalkMs the time with both sides joined.
	DurationMs int64 `json:"durationMs"`
	TalkMs     int64 `json:"talkMs"`
}

// OutCallEnded is the end of a manual outbound call (LOG-022).
type OutCallEnded struct {
	CallID   string `json:"callId"`
	Campaign string `json:"campaign"`
	Agent    string `json:"agent"`
	Number   string `json:"number"`
	// DialStatus is ANSWER, NOANSWER, BUSY, CANCEL, CONGESTION or CHANUNAVAIL.
	DialStatus   string `json:"dialStatus"`
	TalkSeconds  int64  `json:"talkSeconds"`
	TotalSeconds int64  `json:"totalSeconds"`
}

// CallQuality is what one leg's media was like over the whole call.
type CallQuality struct {
	CallID      string  `json:"callId"`
	LegID       string  `json:"legId"`
	Side        string  `json:"side"` // customer, agent
	Codec       string  `json:"codec"`
	PacketsIn   uint64  `json:"packetsIn"`
	PacketsOut  uint64  `json:"packetsOut"`
	LostIn      uint64  `json:"lostIn"`
	LossInPct   float64 `json:"lossInPct"`
	LossOutPct  float64 `json:"lossOutPct"` // as the far side reported it
	JitterInMs  float64 `json:"jitterInMs"`
	JitterOutMs float64 `json:"jitterOutMs"`
	RTTMs       float64 `json:"rttMs"`
	MOS         float64 `json:"mos"` // ITU-T G.107, 1 to 4.5
}

// RecordingStarted is written when a call's recording begins.
type RecordingStarted struct {
	CallID   string `json:"callId"`
	Campaign string `json:"campaign,omitempty"`
	// Path is relative to the recordings' root: 2026/11/21/GUID.wav.
	Path string `json:"path"`
}

// RecordingFinished is written when the recording's file is complete.
type RecordingFinished struct {
	CallID     string `json:"callId"`
	Path       string `json:"path"`
	DurationMs int64  `json:"durationMs"`
	Bytes      int64  `json:"bytes"`
	SHA256     string `json:"sha256"`
	// LostMs is audio that could not be written (disk full, writer too slow).
	LostMs int64 `json:"lostMs"`
}

// RecordingTagged is a mark that a user made in a recording (REC-14, TAGS).
type RecordingTagged struct {
	CallID string `json:"callId"`
	User   string `json:"user"`
	// Second is the place in the recording.
	Second  int64  `json:"second"`
	Comment string `json:"comment,omitempty"`
}

// Disposition is the outcome that an agent gave to a call (DISP-03).
type Disposition struct {
	CallID   string `json:"callId"`
	Campaign string `json:"campaign"`
	Agent    string `json:"agent"`
	CallerID string `json:"callerId"`
	L1       string `json:"l1"`
	L2       string `json:"l2,omitempty"`
	L3       string `json:"l3,omitempty"`
	Comment  string `json:"comment,omitempty"`
	Tag      string `json:"tag,omitempty"`
	Schedule string `json:"schedule,omitempty"`
}

// Kind implements Payload.
func (CallStarted) Kind() Kind { return KindCallStarted }

// Kind implements Payload.
func (CallLegRinging) Kind() Kind { return KindCallLegRinging }

// Kind implements Payload.
func (CallAnswered) Kind() Kind { return KindCallAnswered }

// Kind implements Payload.
func (CallHeld) Kind() Kind { return KindCallHeld }

// Kind implements Payload.
func (CallUnheld) Kind() Kind { return KindCallUnheld }

// Kind implements Payload.
func (CallAgentLost) Kind() Kind { return KindCallAgentLost }

// Kind implements Payload.
func (CallAgentBack) Kind() Kind { return KindCallAgentBack }

// Kind implements Payload.
func (CallLegEnded) Kind() Kind { return KindCallLegEnded }

// Kind implements Payload.
func (CallEnded) Kind() Kind { return KindCallEnded }

// Kind implements Payload.
func (OutCallEnded) Kind() Kind { return KindOutCallEnded }

// Kind implements Payload.
func (CallQuality) Kind() Kind { return KindCallQuality }

// Kind implements Payload.
func (RecordingStarted) Kind() Kind { return KindRecordingStarted }

// Kind implements Payload.
func (RecordingFinished) Kind() Kind { return KindRecordingFinished }

// Kind implements Payload.
func (RecordingTagged) Kind() Kind { return KindRecordingTagged }

// Kind implements Payload.
func (Disposition) Kind() Kind { return KindDisposition }
