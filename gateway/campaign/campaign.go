package campaign

import "time"

// Direction says whether a campaign takes or makes calls (VOICE-02).
type Direction string

// The directions of a campaign.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
)

// Strategy is how a queue chooses whom to ring (ACD-01 to ACD-07).
type Strategy string

// The seven strategies, with the meaning that Asterisk's app_queue gives them.
const (
	RingAll     Strategy = "ringall"
	LeastRecent Strategy = "leastrecent"
	FewestCalls Strategy = "fewestcalls"
	Random      Strategy = "random"
	RRMemory    Strategy = "rrmemory"
	Linear      Strategy = "linear"
	WRandom     Strategy = "wrandom"
)

// Campaign is a unit of work: a queue with its settings, hours and members.
// Zero durations mean what each field says; Defaults fills a new campaign.
type Campaign struct {
	Name      string // unique; "Support<-", "Sales->"
	Channel   string // voice
	Direction Direction
	DIDs      []string // E.164 digits (VOICE-04, VOICE-05)
	Strategy  Strategy
	Weight    int // between queues (VOICE-35)
	// RingTime is how long an agent's phone rings (VOICE-32).
	RingTime time.Duration
	// Retry is the pause before trying again after nobody took the offer.
	Retry time.Duration
	// WrapUp is the time after a call without a further one (VOICE-26).
	WrapUp time.Duration
	// ServiceLevel is the wait within which an answer counts as in time.
	ServiceLevel time.Duration
	// MaxWait ends a caller's waiting; 0 = never (VOICE-57).
	MaxWait time.Duration
	// MaxLen is how many callers may wait; 0 = no limit (VOICE-34).
	MaxLen         int
	JoinEmpty      bool // callers may enter without agents signed in
	LeaveWhenEmpty bool
	// NoAnswerPause is after how many unanswered offers in a row an agent is
	// paused; 0 = never.
	NoAnswerPause int
	AutoAnswer    bool
	Record        bool
	RingInUse     bool
	Schedule      Schedule
	// Timezone is an IANA name; empty = the gateway's.
	Timezone string
	Language string // of prompts
	Breaks   []string
	Form     string
	// Trunk is the route out, or the first of several; empty = by priority.
	Trunk    string
	CallerID []string // outbound: PREFIX#CALLERID-RANDINI-RANDFIN entries
	// Welcome, MusicOnHold, OutOfHours name prompts; empty = the built-in.
	Welcome     string
	MusicOnHold string
	OutOfHours  string
	Members     []Member
	Rev         uint64
}

// Member is an agent's place in a campaign.
type Member struct {
	User    string
	Penalty int
	Paused  bool
}

// Disposition is one outcome of a campaign, up to three levels (DISP-02).
type Disposition struct {
	Campaign string
	L1       string
	L2       string
	L3       string
	Action   string // "", RESPOOL, RESPOOLALTERNATIVE, BLACKLIST, SCHEDULE
}
