package main

import (
	"encoding/json"
	"io"
	"math"
	"sync"
	"time"

	"github.com/cordboard/cordboard/softphone"
)

// line is one event as it is printed.
type line struct {
	Time  string `json:"time"`
	Event string `json:"event"`
	// CallID is the gateway's id of the call if it told one, else one of the phone's.
	CallID     string   `json:"callId,omitempty"`
	From       string   `json:"from,omitempty"`
	Name       string   `json:"name,omitempty"`
	Campaign   string   `json:"campaign,omitempty"`
	WaitedMs   *int64   `json:"waitedMs,omitempty"`
	AutoAnswer bool     `json:"autoAnswer,omitempty"`
	Codec      string   `json:"codec,omitempty"`
	SetupMs    *float64 `json:"setupMs,omitempty"`
	Digit      string   `json:"digit,omitempty"`
	quality
	By         string `json:"by,omitempty"`
	Cause      string `json:"cause,omitempty"`
	Text       string `json:"text,omitempty"`
	Code       int    `json:"code,omitempty"`
	DurationMs *int64 `json:"durationMs,omitempty"`
	Error      string `json:"error,omitempty"`
	RetryMs    *int64 `json:"retryMs,omitempty"`
}

type quality struct {
	RTTMs    *float64 `json:"rttMs,omitempty"`
	JitterMs *float64 `json:"jitterMs,omitempty"`
	LossPct  *float64 `json:"lossPct,omitempty"`
	MOS      *float64 `json:"mos,omitempty"`
}

// printer writes events; the ids of calls are the gateway's where it told them.
type printer struct {
	mu  sync.Mutex
	enc *json.Encoder
	ids map[softphone.CallID]string
	err error
}

func newPrinter(w io.Writer) *printer {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // names of campaigns hold arrows
	return &printer{enc: enc, ids: map[softphone.CallID]string{}}
}

// problem prints an error that is of no call.
func (p *printer) problem(err error) { p.print(line{Event: "error", Error: err.Error()}) }

func (p *printer) print(l line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.Time = time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	if err := p.enc.Encode(l); err != nil && p.err == nil {
		p.err = err
	}
}

func (p *printer) id(id softphone.CallID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := p.ids[id]; ok {
		return s
	}
	return string(id)
}

func (p *printer) name(id softphone.CallID, guid string) {
	if guid == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids[id] = guid
}

// event prints what the phone tells.
func (p *printer) event(e softphone.Event) {
	switch e := e.(type) {
	case softphone.Registered:
		p.print(line{Event: "registered"})
	case softphone.Unregistered:
		p.print(line{Event: "error", Error: e.Err.Error(), RetryMs: ms(e.RetryIn)})
	case softphone.Incoming:
		p.name(e.Call, e.GUID)
		p.print(line{
			Event: "incoming", CallID: p.id(e.Call), From: e.From, Name: e.Name, Campaign: e.Campaign,
			WaitedMs: ms(e.Waited), AutoAnswer: e.AutoAnswer,
		})
	case softphone.Ringing:
		p.print(line{Event: "ringing", CallID: p.id(e.Call)})
	case softphone.Answered:
		p.print(line{Event: "answered", CallID: p.id(e.Call), Codec: e.Codec, SetupMs: fraction(e.Setup)})
	case softphone.Digit:
		p.print(line{Event: "dtmf", CallID: p.id(e.Call), Digit: string(e.Digit), DurationMs: ms(e.For)})
	case softphone.Stats:
		p.print(line{Event: "stats", CallID: p.id(e.Call), quality: figures(e.Quality)})
	case softphone.Held:
		p.print(line{Event: "held", CallID: p.id(e.Call), By: by(e.ByFar)})
	case softphone.Resumed:
		p.print(line{Event: "resumed", CallID: p.id(e.Call), By: by(e.ByFar)})
	case softphone.MediaLost:
		p.print(line{Event: "error", CallID: p.id(e.Call), Error: "media lost, looking for another path"})
	case softphone.MediaBack:
		p.print(line{Event: "mediaBack", CallID: p.id(e.Call)})
	case softphone.Ended:
		l := line{
			Event: "ended", CallID: p.id(e.Call), Cause: e.Cause, Text: e.Text, Code: e.Code, DurationMs: ms(e.Duration),
		}
		if e.Quality.MOS > 0 {
			l.quality = figures(e.Quality)
		}
		p.print(l)
		p.mu.Lock()
		delete(p.ids, e.Call)
		p.mu.Unlock()
	case softphone.Problem:
		p.print(line{Event: "error", CallID: p.id(e.Call), Error: e.Err.Error()})
	}
}

func by(far bool) string {
	if far {
		return "far"
	}
	return "here"
}

func figures(q softphone.Quality) quality {
	loss, mos := round(q.Loss*100), round(q.MOS)
	return quality{RTTMs: fraction(q.RTT), JitterMs: fraction(q.Jitter), LossPct: &loss, MOS: &mos}
}

func ms(d time.Duration) *int64 {
	n := d.Milliseconds()
	return &n
}

func fraction(d time.Duration) *float64 {
	f := round(float64(d) / float64(time.Millisecond))
	return &f
}

// round keeps two decimals.
func round(f float64) float64 { return math.Round(f*100) / 100 }
