package softphone

import "time"

// CallID names a call of one phone; it is the SIP Call-ID's stand-in for users of this package.
type CallID string

// Event is something that happened; see the types that implement it.
type Event interface{ event() }

// Registered says that the gateway knows this phone now. It is told after each new connection, not after
// each refresh.
type Registered struct {
	Expires time.Duration
}

// Unregistered says that the connection or the registration is lost. Calls go on.
type Unregistered struct {
	Err error
	// RetryIn is when the next attempt is made; 0 = none will be (wrong password, phone closed).
	RetryIn time.Duration
}

// Incoming is a new call that rings.
type Incoming struct {
	Call CallID
	// From is the caller's number, Name its display name.
	From, Name string
	// GUID, Campaign and Waited tell of a call from a queue: the gateway's call id, the campaign and how
	// long the customer waited. Empty otherwise.
	GUID     string
	Campaign string
	Waited   time.Duration
	// AutoAnswer says that the phone answers by itself, after a beep.
	AutoAnswer bool
}

// Ringing says that the far side of a dialled call rings.
type Ringing struct {
	Call CallID
	// EarlyMedia says that the gateway sends what is to be heard.
	EarlyMedia bool
}

// Answered says that both sides may talk.
type Answered struct {
	Call  CallID
	Codec string
	// Setup is the time from the answer (the far side's, or ours) until media could flow both ways.
	Setup time.Duration
	// GUID is the gateway's call id if it told one.
	GUID string
}

// Digit is a key that the far side pressed.
type Digit struct {
	Call  CallID
	Digit byte
	For   time.Duration
}

// Stats are the figures of a call in progress, each few seconds.
type Stats struct {
	Call CallID
	Quality
}

// Quality of a call so far.
type Quality struct {
	RTT    time.Duration
	Jitter time.Duration // of what we receive
	// Loss is the share of lost packets of what we receive, 0 to 1; FarLoss of what the far side does.
	Loss    float64
	FarLoss float64
	MOS     float64 // 1 to 4.5, by the E-model (ITU-T G.107)
}

// Held says that the call is on hold; ByFar that the other side did it.
type Held struct {
	Call  CallID
	ByFar bool
}

// Resumed is the end of Held.
type Resumed struct {
	Call  CallID
	ByFar bool
}

// MediaLost says that nothing is heard from the far side any more; the phone looks for another path.
type MediaLost struct{ Call CallID }

// MediaBack is the end of MediaLost.
type MediaBack struct{ Call CallID }

// Ended is the last event of a call.
type Ended struct {
	Call CallID
	// Normal is true for a call that was answered and hung up by either side, for one that we gave up or
	// refused, and for one whose caller gave up. Busy, no answer, lost media and the like are not.
	Normal bool
	// Cause is a word for programs (see the Cause constants), Text for people; Code the SIP status.
	Cause string
	Text  string
	Code  int
	// Duration counts from the answer; 0 for a call that was never answered.
	Duration time.Duration
	Quality  Quality
}

// Problem is an error that ended nothing: a request that was refused, a sound file that cannot be written.
type Problem struct {
	Call CallID // empty if of the phone itself
	Err  error
}

func (Registered) event()   {}
func (Unregistered) event() {}
func (Incoming) event()     {}
func (Ringing) event()      {}
func (Answered) event()     {}
func (Digit) event()        {}
func (Stats) event()        {}
func (Held) event()         {}
func (Resumed) event()      {}
func (MediaLost) event()    {}
func (MediaBack) event()    {}
func (Ended) event()        {}
func (Problem) event()      {}

// Causes of Ended.
const (
	CauseHangup    = "hangup"    // this side hung up
	CauseFarHangup = "farHangup" // the far side hung up
	CauseCancelled = "cancelled" // the caller gave up, or another phone answered
	CauseRejected  = "rejected"  // this side refused
	CauseBusy      = "busy"
	CauseDeclined  = "declined"
	CauseNoAnswer  = "noAnswer"
	CauseNotFound  = "notFound"
	CauseNoCodec   = "noCodec"
	CauseRefused   = "refused" // any other refusal
	CauseNoMedia   = "noMedia" // no path for media was found, or it was lost for good
	CauseTimeout   = "timeout"
	CauseLost      = "lost"   // the connection was lost and the call with it
	CauseFailed    = "failed" // this phone could not go on
)
