package report

import (
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// callFact applies what happens to calls, legs and recordings.
func (c *changing) callFact() (done bool, err error) {
	switch c.f.Type { //nolint:exhaustive // the other kinds belong to others
	case event.KindCallStarted:
		return true, on(c, func(p event.CallStarted) error {
			return c.putCall(p.CallID, &openCall{At: c.f.Time, Start: p, Agent: p.Agent})
		})
	case event.KindCallLegRinging:
		return true, on(c, c.legRinging)
	case event.KindCallAnswered:
		return true, on(c, c.answered)
	case event.KindCallHeld:
		return true, on(c, func(p event.CallHeld) error { return c.held("HOLD", p) })
	case event.KindCallUnheld:
		return true, on(c, func(p event.CallUnheld) error { return c.held("UNHOLD", event.CallHeld(p)) })
	case event.KindCallLegEnded:
		return true, on(c, c.legEnded)
	case event.KindCallEnded:
		return true, on(c, func(p event.CallEnded) error { return c.putCall(p.CallID, nil) })
	case event.KindOutCallEnded:
		return true, on(c, c.outCallEnded)
	case event.KindCallQuality:
		return true, on(c, c.quality)
	case event.KindRecordingStarted:
		return true, on(c, c.recordingStarted)
	case event.KindRecordingFinished:
		return true, on(c, c.recordingFinished)
	case event.KindRecordingTagged:
		return true, on(c, func(p event.RecordingTagged) error {
			c.Tags = append(c.Tags, TagRow{
				Seq: c.f.Seq, Time: c.f.Time, Datetime: c.m.wall(c.f.Time),
				User: p.User, GUID: p.CallID, Second: p.Second, Comment: p.Comment,
			})
			return nil
		})
	case event.KindDisposition:
		return true, on(c, c.disposition)
	}
	return false, nil
}

func (c *changing) putCall(id string, call *openCall) error {
	if call == nil {
		delete(c.m.st.calls, id)
	} else {
		c.m.st.calls[id] = call
	}
	it, err := keep(itemCall, id, call)
	c.Open = append(c.Open, it)
	return err
}

func (c *openCall) answer(legID, agent string, at time.Time) {
	l := c.leg(legID, agent, at)
	if l.AnsweredAt.IsZero() {
		l.AnsweredAt = at
	}
	if c.AnsweredAt.IsZero() {
		c.AnsweredAt = at
	}
	if agent != "" {
		l.Agent, c.Agent = agent, agent
	}
}

func (c *changing) legRinging(p event.CallLegRinging) error {
	call := c.m.st.calls[p.CallID]
	if call == nil {
		return nil
	}
	call.leg(p.LegID, p.Agent, c.f.Time)
	return c.putCall(p.CallID, call)
}

func (c *changing) answered(p event.CallAnswered) error {
	call := c.m.st.calls[p.CallID]
	if call == nil {
		return nil
	}
	call.answer(p.LegID, p.Agent, c.f.Time)
	return c.putCall(p.CallID, call)
}

func (c *changing) held(name string, p event.CallHeld) error {
	extension := ""
	if a := c.m.st.agents[p.Agent]; a != nil && a.SignIn != nil {
		extension = a.SignIn.Extension
	}
	c.log(QueueLogRow{Event: name, CallID: p.CallID, QueueName: p.Campaign, Agent: p.Agent, Number: p.From},
		p.Channel, p.FromName, p.From, p.Agent, extension)
	return nil
}

func (c *changing) legEnded(p event.CallLegEnded) error {
	r := CDRRow{
		Seq: c.f.Seq, LegID: p.LegID, Direction: string(p.Direction), EndedBy: string(p.By), Agent: p.Agent, Trunk: p.Trunk,
		StartedAt: p.StartedAt, EndedAt: p.EndedAt,
		CDR: CDR{
			CallDate: c.m.wall(p.StartedAt), CLID: p.Src, Src: p.Src, Dst: p.Dst, DContext: string(p.Direction),
			Channel: p.Channel, DstChannel: p.DstChannel, LastApp: p.LastApp, Duration: seconds(p.StartedAt, p.EndedAt),
			Disposition: p.Disposition, AccountCode: p.Agent, GUID: p.CallID, CauseCode: p.CauseCode, Campaign: p.Campaign,
		},
	}
	if p.SrcName != "" {
		r.CLID = `"` + p.SrcName + `" <` + p.Src + ">"
	}
	if r.AccountCode == "" {
		r.AccountCode = p.Trunk
	}
	if p.AnsweredAt != nil {
		r.AnsweredAt, r.BillSec = *p.AnsweredAt, seconds(*p.AnsweredAt, p.EndedAt)
	}
	if p.Recorded {
		r.Type = TypeRecorded
	}
	c.CDR = append(c.CDR, r)

	call := c.m.st.calls[p.CallID]
	if call == nil {
		return nil
	}
	delete(call.Legs, p.LegID)
	call.LegsEnded++
	return c.putCall(p.CallID, call)
}

func (c *changing) outCallEnded(p event.OutCallEnded) error {
	c.log(QueueLogRow{
		Event: "OUTCALL", CallID: p.CallID, QueueName: p.Campaign, Agent: p.Agent, Number: p.Number,
		Times: Times{TalkSeconds: p.TalkSeconds},
	}, p.DialStatus, num(p.TalkSeconds), num(p.TotalSeconds), p.Number, p.CallID)
	call := c.m.st.calls[p.CallID]
	if call == nil {
		return nil
	}
	call.OutEnded = true
	return c.putCall(p.CallID, call)
}

func (c *changing) quality(p event.CallQuality) error {
	c.Quality = append(c.Quality, QualityRow{
		Seq: c.f.Seq, Time: c.f.Time, Datetime: c.m.wall(c.f.Time), GUID: p.CallID, LegID: p.LegID, Side: p.Side, Codec: p.Codec,
		PacketsIn: p.PacketsIn, PacketsOut: p.PacketsOut, LostIn: p.LostIn,
		QualityFigs: QualityFigs{
			LossInPct: p.LossInPct, LossOutPct: p.LossOutPct, JitterInMs: p.JitterInMs, JitterOutMs: p.JitterOutMs,
			RTTMs: p.RTTMs, MOS: p.MOS,
		},
	})
	return nil
}

func (c *changing) recordingStarted(p event.RecordingStarted) error {
	r := RecordingRow{
		Seq: c.f.Seq, Time: c.f.Time, Datetime: c.m.wall(c.f.Time), GUID: p.CallID, Campaign: p.Campaign, Path: p.Path,
	}
	if call := c.m.st.calls[p.CallID]; call != nil {
		r.Agent, r.Number = call.Agent, call.number()
		call.Recorded = true
		if err := c.putCall(p.CallID, call); err != nil {
			return err
		}
	}
	c.Recordings = append(c.Recordings, r)
	return c.putRecording(p.Path, &openRecording{At: c.f.Time, Start: p})
}

func (c *changing) recordingFinished(p event.RecordingFinished) error {
	r := RecordingRow{
		Seq: c.f.Seq, Time: c.f.Time, Datetime: c.m.wall(c.f.Time), GUID: p.CallID, Path: p.Path, FinishedAt: c.f.Time,
		DurationMs: p.DurationMs, Bytes: p.Bytes, SHA256: p.SHA256, LostMs: p.LostMs,
	}
	if rec := c.m.st.recordings[p.Path]; rec != nil {
		r.Campaign, r.Time, r.Datetime = rec.Start.Campaign, rec.At, c.m.wall(rec.At)
	}
	c.Recordings = append(c.Recordings, r)
	return c.putRecording(p.Path, nil)
}

func (c *changing) putRecording(path string, r *openRecording) error {
	if r == nil {
		delete(c.m.st.recordings, path)
	} else {
		c.m.st.recordings[path] = r
	}
	it, err := keep(itemRecording, path, r)
	c.Open = append(c.Open, it)
	return err
}

func (c *changing) disposition(p event.Disposition) error {
	c.Dispositions = append(c.Dispositions, DispositionRow{
		Seq: c.f.Seq, Time: c.f.Time, Datetime: c.m.wall(c.f.Time), GUID: p.CallID, Campaign: p.Campaign, Agent: p.Agent,
		CallerID: p.CallerID, L1: p.L1, L2: p.L2, L3: p.L3, Comment: p.Comment, Tag: p.Tag, Schedule: p.Schedule,
	})
	return nil
}
