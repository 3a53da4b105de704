package api

import "time"

// Page is one page of rows, newest first. Next is the after of the next page,
// 0 on the last.
type Page[T any] struct {
	Rows []T   `json:"rows" nullable:"false"`
	Next int64 `json:"next,omitempty"`
}

// QueueLogRow is one event of QUEUE_LOG_REPO.
type QueueLogRow struct {
	ID        int64     `json:"id"`
	Seq       uint64    `json:"seq"`
	Time      time.Time `json:"time"`
	Datetime  string    `json:"datetime" doc:"in the gateway's time zone"`
	OrigID    string    `json:"origId"`
	CallID    string    `json:"callId"`
	QueueName string    `json:"queueName"`
	Agent     string    `json:"agent"`
	Event     string    `json:"event"`
	Data      []string  `json:"data" doc:"data1 to data5"`
}

// CDRRow is one row of CDR_REPO.
type CDRRow struct {
	ID          int64      `json:"id"`
	Seq         uint64     `json:"seq"`
	GUID        string     `json:"guid"`
	LegID       string     `json:"legId"`
	Direction   string     `json:"direction"`
	Agent       string     `json:"agent"`
	Trunk       string     `json:"trunk"`
	Campaign    string     `json:"campaign"`
	StartedAt   time.Time  `json:"startedAt"`
	AnsweredAt  *time.Time `json:"answeredAt,omitempty"`
	EndedAt     time.Time  `json:"endedAt"`
	EndedBy     string     `json:"endedBy"`
	CallDate    string     `json:"callDate" doc:"in the gateway's time zone"`
	CLID        string     `json:"clid"`
	Src         string     `json:"src"`
	Dst         string     `json:"dst"`
	Channel     string     `json:"channel"`
	DstChannel  string     `json:"dstChannel"`
	LastApp     string     `json:"lastApp"`
	Duration    int64      `json:"durationSeconds"`
	BillSec     int64      `json:"billSeconds"`
	Disposition string     `json:"disposition"`
	CauseCode   string     `json:"causeCode"`
	Recorded    bool       `json:"recorded"`
}

// QualityRow is what one leg's media was like over a whole call.
type QualityRow struct {
	ID          int64     `json:"id"`
	Seq         uint64    `json:"seq"`
	Time        time.Time `json:"time"`
	GUID        string    `json:"guid"`
	LegID       string    `json:"legId"`
	Side        string    `json:"side"`
	Codec       string    `json:"codec"`
	PacketsIn   uint64    `json:"packetsIn"`
	PacketsOut  uint64    `json:"packetsOut"`
	LostIn      uint64    `json:"lostIn"`
	LossInPct   float64   `json:"lossInPct"`
	LossOutPct  float64   `json:"lossOutPct"`
	JitterInMs  float64   `json:"jitterInMs"`
	JitterOutMs float64   `json:"jitterOutMs"`
	RTTMs       float64   `json:"rttMs"`
	MOS         float64   `json:"mos"`
}

// RecordingRow is one recording; its audio is at /recordings/GUID/audio.
type RecordingRow struct {
	ID         int64      `json:"id"`
	Time       time.Time  `json:"time"`
	GUID       string     `json:"guid"`
	Campaign   string     `json:"campaign"`
	Agent      string     `json:"agent"`
	Number     string     `json:"number"`
	FinishedAt *time.Time `json:"finishedAt,omitempty"`
	DurationMs int64      `json:"durationMs"`
	Bytes      int64      `json:"bytes"`
	SHA256     string     `json:"sha256"`
	LostMs     int64      `json:"lostMs"`
}

// DispositionRow is the outcome that an agent gave to a call.
type DispositionRow struct {
	ID       int64     `json:"id"`
	Time     time.Time `json:"time"`
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

// AuditRow is one row of AUDITORY: who did what, from where.
type AuditRow struct {
	ID       int64     `json:"id"`
	Time     time.Time `json:"time"`
	Datetime string    `json:"datetime"`
	User     string    `json:"user"`
	Host     string    `json:"host"`
	Action   string    `json:"action"`
	Object   string    `json:"object"`
}

// Problem is every error of the API (RFC 9457), as application/problem+json.
type Problem struct { //nolint:errname // the word of RFC 9457
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Code is stable: clients choose their text by it.
	Code   string         `json:"code"`
	Errors []ProblemField `json:"errors,omitempty"`
}

// ProblemField is one wrong part of a request.
type ProblemField struct {
	// Location is a path such as body.users[0].extension.
	Location string `json:"location,omitempty"`
	Message  string `json:"message"`
}

// Error implements error, for clients.
func (p *Problem) Error() string {
	s := p.Title
	if p.Detail != "" {
		s = p.Detail
	}
	for _, e := range p.Errors {
		if s += "; "; e.Location != "" {
			s += e.Location + ": "
		}
		s += e.Message
	}
	return s
}
