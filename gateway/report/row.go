package report

import "time"

// Call detail and queue log rows carry their time twice: Time in UTC, by which
// they are found, and Datetime as the old product's reports expect it, in the
// gateway's time zone without an offset.

// DatetimeLayout is the form of Datetime.
const DatetimeLayout = "2006-01-02 15:04:05"

// QueueLogRow is one event of QUEUE_LOG_REPO (LOG-001 to LOG-033).
type QueueLogRow struct {
	ID        int64     `json:"id"`
	Seq       uint64    `json:"seq"`
	Time      time.Time `json:"time"`
	Datetime  string    `json:"datetime"`
	OrigID    string    `json:"origId"`
	CallID    string    `json:"callId"`
	QueueName string    `json:"queueName"`
	Agent     string    `json:"agent"`
	Event     string    `json:"event"`
	Data      [5]string `json:"data"`
	// Number is the customer's, as far as it is known.
	Number string `json:"number"`
	Times  Times  `json:"-"`
}

// Times are the numbers of a queue log row that statistics are made from.
type Times struct {
	WaitSeconds int64
	TalkSeconds int64
	RingMs      int64
}

// CDRRow is one row of CDR_REPO (LOG-034 to LOG-059) and what we add to it: the
// leg, the direction and who ended it.
type CDRRow struct {
	ID        int64     `json:"id"`
	Seq       uint64    `json:"seq"`
	LegID     string    `json:"legId"`
	Direction string    `json:"direction"`
	EndedBy   string    `json:"endedBy"`
	Agent     string    `json:"agent"`
	Trunk     string    `json:"trunk"`
	StartedAt time.Time `json:"startedAt"`
	// AnsweredAt is zero for a leg that was not answered.
	AnsweredAt time.Time `json:"answeredAt,omitzero"`
	EndedAt    time.Time `json:"endedAt"`
	CDR
}

// CDR holds the columns of CDR_REPO that are not always empty.
type CDR struct {
	CallDate    string `json:"callDate"`
	CLID        string `json:"clid"`
	Src         string `json:"src"`
	Dst         string `json:"dst"`
	DContext    string `json:"dcontext"`
	Channel     string `json:"channel"`
	DstChannel  string `json:"dstChannel"`
	LastApp     string `json:"lastApp"`
	Duration    int64  `json:"duration"` // seconds
	BillSec     int64  `json:"billSec"`  // seconds
	Disposition string `json:"disposition"`
	AccountCode string `json:"accountCode"`
	Type        string `json:"type"` // TypeRecorded or empty
	GUID        string `json:"guid"`
	CauseCode   string `json:"causeCode"`
	Campaign    string `json:"campaign"`
}

// TypeRecorded is the type column of a call that was recorded (LOG-049).
const TypeRecorded = "recorded"

// QualityRow is what one leg's media was like over a whole call.
type QualityRow struct {
	ID         int64     `json:"id"`
	Seq        uint64    `json:"seq"`
	Time       time.Time `json:"time"`
	Datetime   string    `json:"datetime"`
	GUID       string    `json:"guid"`
	LegID      string    `json:"legId"`
	Side       string    `json:"side"`
	Codec      string    `json:"codec"`
	PacketsIn  uint64    `json:"packetsIn"`
	PacketsOut uint64    `json:"packetsOut"`
	LostIn     uint64    `json:"lostIn"`
	QualityFigs
}

// QualityFigs are the measured figures of a QualityRow.
type QualityFigs struct {
	LossInPct   float64 `json:"lossInPct"`
	LossOutPct  float64 `json:"lossOutPct"`
	JitterInMs  float64 `json:"jitterInMs"`
	JitterOutMs float64 `json:"jitterOutMs"`
	RTTMs       float64 `json:"rttMs"`
	MOS         float64 `json:"mos"`
}

// RecordingRow is one recording's file. FinishedAt is zero while it is written.
type RecordingRow struct {
	ID         int64     `json:"id"`
	Seq        uint64    `json:"seq"`
	Time       time.Time `json:"time"`
	Datetime   string    `json:"datetime"`
	GUID       string    `json:"guid"`
	Campaign   string    `json:"campaign"`
	Agent      string    `json:"agent"`
	Number     string    `json:"number"`
	Path       string    `json:"path"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	DurationMs int64     `json:"durationMs"`
	Bytes      int64     `json:"bytes"`
	SHA256     string    `json:"sha256"`
	LostMs     int64     `json:"lostMs"`
}

// DispositionRow is the outcome that an agent gave to a call (DISP-03).
type DispositionRow struct {
	ID       int64     `json:"id"`
	Seq      uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Datetime string    `json:"datetime"`
	GUID     string    `json:"guid"`
	Campaign string    `json:"campaign"`
	Agent    string    `json:"agent"`
	CallerID string    `json:"callerId"`
	L1       string    `json:"l1"`
	L2       string    `json:"l2"`
	L3       string    `json:"l3"`
	Comment  string    `json:"comment"`
	Tag      string    `json:"tag"`
	Schedule string    `json:"schedule"`
}

// TagRow is a mark in a recording: one row of TAGS (LOG-138 to LOG-143).
type TagRow struct {
	ID       int64     `json:"id"`
	Seq      uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Datetime string    `json:"datetime"`
	User     string    `json:"user"`
	GUID     string    `json:"guid"`
	Second   int64     `json:"second"`
	Comment  string    `json:"comment"`
}

// AuditRow is one row of AUDITORY (LOG-152 to LOG-156).
type AuditRow struct {
	ID       int64     `json:"id"`
	Seq      uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Datetime string    `json:"datetime"`
	User     string    `json:"user"`
	Host     string    `json:"host"`
	Action   string    `json:"action"`
	Object   string    `json:"object"`
}

// PoisonRow is a fact that could not be applied and was put aside.
type PoisonRow struct {
	ID     int64     `json:"id"`
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`
	FactID string    `json:"factId"`
	Kind   string    `json:"kind"`
	Data   string    `json:"data"`
	Error  string    `json:"error"`
}
