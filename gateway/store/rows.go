package store

import (
	"database/sql"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/cordboard/cordboard/gateway/report"
)

// The rows as they stand in the tables. The report package knows nothing of
// columns.

type queueLogRow struct {
	bun.BaseModel `bun:"table:queue_log,alias:t"`

	ID        int64  `bun:"id,pk,autoincrement"`
	Seq       uint64 `bun:"seq"`
	At        int64  `bun:"at"`
	OrigID    string `bun:"origid"`
	Datetime  string `bun:"datetime"`
	CallID    string `bun:"callid"`
	QueueName string `bun:"queuename"`
	Agent     string `bun:"agent"`
	Event     string `bun:"event"`
	queueLogData
}

type queueLogData struct {
	Data1  string `bun:"data1"`
	Data2  string `bun:"data2"`
	Data3  string `bun:"data3"`
	Data4  string `bun:"data4"`
	Data5  string `bun:"data5"`
	Number string `bun:"number"`
	WaitS  int64  `bun:"wait_s"`
	TalkS  int64  `bun:"talk_s"`
	RingMs int64  `bun:"ring_ms"`
}

func toQueueLog(r report.QueueLogRow) queueLogRow {
	return queueLogRow{
		Seq: r.Seq, At: stamp(r.Time), OrigID: clean(r.OrigID), Datetime: r.Datetime, CallID: clean(r.CallID),
		QueueName: clean(r.QueueName), Agent: clean(r.Agent), Event: clean(r.Event),
		queueLogData: queueLogData{
			Data1: clean(r.Data[0]), Data2: clean(r.Data[1]), Data3: clean(r.Data[2]), Data4: clean(r.Data[3]),
			Data5: clean(r.Data[4]), Number: clean(r.Number),
			WaitS: r.Times.WaitSeconds, TalkS: r.Times.TalkSeconds, RingMs: r.Times.RingMs,
		},
	}
}

func (r queueLogRow) row() report.QueueLogRow {
	return report.QueueLogRow{
		ID: r.ID, Seq: r.Seq, Time: unstamp(r.At), Datetime: wall(r.Datetime), OrigID: r.OrigID, CallID: r.CallID,
		QueueName: r.QueueName, Agent: r.Agent, Event: r.Event, Number: r.Number,
		Data:  [5]string{r.Data1, r.Data2, r.Data3, r.Data4, r.Data5},
		Times: report.Times{WaitSeconds: r.WaitS, TalkSeconds: r.TalkS, RingMs: r.RingMs},
	}
}

type cdrRow struct {
	bun.BaseModel `bun:"table:cdr,alias:t"`

	ID         int64         `bun:"id,pk,autoincrement"`
	Seq        uint64        `bun:"seq"`
	LegID      string        `bun:"legid"`
	Direction  string        `bun:"direction"`
	EndedBy    string        `bun:"ended_by"`
	Agent      string        `bun:"agent"`
	Trunk      string        `bun:"trunk"`
	StartedAt  int64         `bun:"started_at"`
	AnsweredAt sql.NullInt64 `bun:"answered_at"`
	EndedAt    int64         `bun:"ended_at"`
	cdrFirst
	cdrSecond
}

type cdrFirst struct {
	CallDate   string `bun:"calldate"`
	CLID       string `bun:"clid"`
	Src        string `bun:"src"`
	Dst        string `bun:"dst"`
	DContext   string `bun:"dcontext"`
	Channel    string `bun:"channel"`
	DstChannel string `bun:"dstchannel"`
	LastApp    string `bun:"lastapp"`
}

type cdrSecond struct {
	Duration    int64  `bun:"duration"`
	BillSec     int64  `bun:"billsec"`
	Disposition string `bun:"disposition"`
	AccountCode string `bun:"accountcode"`
	Type        string `bun:"type"`
	GUID        string `bun:"guid"`
	CauseCode   string `bun:"causecode"`
	Campaign    string `bun:"campaign"`
}

func toCDR(r report.CDRRow) cdrRow {
	return cdrRow{
		Seq: r.Seq, LegID: clean(r.LegID), Direction: clean(r.Direction), EndedBy: clean(r.EndedBy),
		Agent: clean(r.Agent), Trunk: clean(r.Trunk), StartedAt: stamp(r.StartedAt),
		AnsweredAt: nullTime(r.AnsweredAt), EndedAt: stamp(r.EndedAt),
		cdrFirst: cdrFirst{
			CallDate: r.CallDate, CLID: clean(r.CLID), Src: clean(r.Src), Dst: clean(r.Dst), DContext: clean(r.DContext),
			Channel: clean(r.Channel), DstChannel: clean(r.DstChannel), LastApp: clean(r.LastApp),
		},
		cdrSecond: cdrSecond{
			Duration: r.Duration, BillSec: r.BillSec, Disposition: clean(r.Disposition), AccountCode: clean(r.AccountCode),
			Type: clean(r.Type), GUID: clean(r.GUID), CauseCode: clean(r.CauseCode), Campaign: clean(r.Campaign),
		},
	}
}

func (r cdrRow) row() report.CDRRow {
	return report.CDRRow{
		ID: r.ID, Seq: r.Seq, LegID: r.LegID, Direction: r.Direction, EndedBy: r.EndedBy, Agent: r.Agent, Trunk: r.Trunk,
		StartedAt: unstamp(r.StartedAt), AnsweredAt: unstamp(r.AnsweredAt.Int64), EndedAt: unstamp(r.EndedAt),
		CDR: report.CDR{
			CallDate: wall(r.CallDate), CLID: r.CLID, Src: r.Src, Dst: r.Dst, DContext: r.DContext, Channel: r.Channel,
			DstChannel: r.DstChannel, LastApp: r.LastApp, Duration: r.Duration, BillSec: r.BillSec,
			Disposition: r.Disposition, AccountCode: r.AccountCode, Type: r.Type, GUID: r.GUID,
			CauseCode: r.CauseCode, Campaign: r.Campaign,
		},
	}
}

type qualityRow struct {
	bun.BaseModel `bun:"table:call_quality,alias:t"`

	ID         int64  `bun:"id,pk,autoincrement"`
	Seq        uint64 `bun:"seq"`
	At         int64  `bun:"at"`
	Datetime   string `bun:"datetime"`
	GUID       string `bun:"guid"`
	LegID      string `bun:"legid"`
	Side       string `bun:"side"`
	Codec      string `bun:"codec"`
	PacketsIn  int64  `bun:"packets_in"`
	PacketsOut int64  `bun:"packets_out"`
	LostIn     int64  `bun:"lost_in"`
	qualityFigs
}

type qualityFigs struct {
	LossInPct   float64 `bun:"loss_in_pct"`
	LossOutPct  float64 `bun:"loss_out_pct"`
	JitterInMs  float64 `bun:"jitter_in_ms"`
	JitterOutMs float64 `bun:"jitter_out_ms"`
	RTTMs       float64 `bun:"rtt_ms"`
	MOS         float64 `bun:"mos"`
}

func toQuality(r report.QualityRow) qualityRow {
	return qualityRow{
		Seq: r.Seq, At: stamp(r.Time), Datetime: r.Datetime, GUID: clean(r.GUID), LegID: clean(r.LegID),
		Side: clean(r.Side), Codec: clean(r.Codec),
		PacketsIn: int64(r.PacketsIn), PacketsOut: int64(r.PacketsOut), LostIn: int64(r.LostIn),
		qualityFigs: qualityFigs(r.QualityFigs),
	}
}

func (r qualityRow) row() report.QualityRow {
	return report.QualityRow{
		ID: r.ID, Seq: r.Seq, Time: unstamp(r.At), Datetime: wall(r.Datetime), GUID: r.GUID, LegID: r.LegID,
		Side: r.Side, Codec: r.Codec,
		PacketsIn: uint64(r.PacketsIn), PacketsOut: uint64(r.PacketsOut), LostIn: uint64(r.LostIn),
		QualityFigs: report.QualityFigs(r.qualityFigs),
	}
}

type recordingRow struct {
	bun.BaseModel `bun:"table:recordings,alias:t"`

	ID         int64         `bun:"id,pk,autoincrement"`
	Seq        uint64        `bun:"seq"`
	At         int64         `bun:"at"`
	Datetime   string        `bun:"datetime"`
	GUID       string        `bun:"guid"`
	Campaign   string        `bun:"campaign"`
	Agent      string        `bun:"agent"`
	Number     string        `bun:"number"`
	Path       string        `bun:"path"`
	FinishedAt sql.NullInt64 `bun:"finished_at"`
	DurationMs int64         `bun:"duration_ms"`
	Bytes      int64         `bun:"bytes"`
	SHA256     string        `bun:"sha256"`
	LostMs     int64         `bun:"lost_ms"`
}

func toRecording(r report.RecordingRow) recordingRow {
	return recordingRow{
		Seq: r.Seq, At: stamp(r.Time), Datetime: r.Datetime, GUID: clean(r.GUID), Campaign: clean(r.Campaign),
		Agent: clean(r.Agent), Number: clean(r.Number), Path: clean(r.Path), FinishedAt: nullTime(r.FinishedAt),
		DurationMs: r.DurationMs, Bytes: r.Bytes, SHA256: clean(r.SHA256), LostMs: r.LostMs,
	}
}

func (r recordingRow) row() report.RecordingRow {
	return report.RecordingRow{
		ID: r.ID, Seq: r.Seq, Time: unstamp(r.At), Datetime: wall(r.Datetime), GUID: r.GUID, Campaign: r.Campaign,
		Agent: r.Agent, Number: r.Number, Path: r.Path, FinishedAt: unstamp(r.FinishedAt.Int64),
		DurationMs: r.DurationMs, Bytes: r.Bytes, SHA256: r.SHA256, LostMs: r.LostMs,
	}
}

type outcomeRow struct {
	bun.BaseModel `bun:"table:dispositions,alias:t"`

	ID       int64  `bun:"id,pk,autoincrement"`
	Seq      uint64 `bun:"seq"`
	At       int64  `bun:"at"`
	Datetime string `bun:"datetime"`
	GUID     string `bun:"guid"`
	Campaign string `bun:"campaign"`
	Agent    string `bun:"agent"`
	CallerID string `bun:"callerid"`
	L1       string `bun:"l1"`
	L2       string `bun:"l2"`
	L3       string `bun:"l3"`
	Comment  string `bun:"comment"`
	Tag      string `bun:"tag"`
	Schedule string `bun:"schedule"`
}

func toOutcome(r report.DispositionRow) outcomeRow {
	return outcomeRow{
		Seq: r.Seq, At: stamp(r.Time), Datetime: r.Datetime, GUID: clean(r.GUID), Campaign: clean(r.Campaign),
		Agent: clean(r.Agent), CallerID: clean(r.CallerID), L1: clean(r.L1), L2: clean(r.L2), L3: clean(r.L3),
		Comment: clean(r.Comment), Tag: clean(r.Tag), Schedule: clean(r.Schedule),
	}
}

func (r outcomeRow) row() report.DispositionRow {
	return report.DispositionRow{
		ID: r.ID, Seq: r.Seq, Time: unstamp(r.At), Datetime: wall(r.Datetime), GUID: r.GUID, Campaign: r.Campaign,
		Agent: r.Agent, CallerID: r.CallerID, L1: r.L1, L2: r.L2, L3: r.L3, Comment: r.Comment, Tag: r.Tag,
		Schedule: r.Schedule,
	}
}

type tagRow struct {
	bun.BaseModel `bun:"table:recording_tags,alias:t"`

	ID       int64  `bun:"id,pk,autoincrement"`
	Seq      uint64 `bun:"seq"`
	At       int64  `bun:"at"`
	Datetime string `bun:"datetime"`
	Username string `bun:"username"`
	GUID     string `bun:"guid"`
	Second   int64  `bun:"second"`
	Comment  string `bun:"comment"`
}

func toTag(r report.TagRow) tagRow {
	return tagRow{
		Seq: r.Seq, At: stamp(r.Time), Datetime: r.Datetime, Username: clean(r.User), GUID: clean(r.GUID),
		Second: r.Second, Comment: clean(r.Comment),
	}
}

func (r tagRow) row() report.TagRow {
	return report.TagRow{
		ID: r.ID, Seq: r.Seq, Time: unstamp(r.At), Datetime: wall(r.Datetime), User: r.Username, GUID: r.GUID,
		Second: r.Second, Comment: r.Comment,
	}
}

type auditRow struct {
	bun.BaseModel `bun:"table:audit,alias:t"`

	ID       int64  `bun:"id,pk,autoincrement"`
	Seq      uint64 `bun:"seq"`
	At       int64  `bun:"at"`
	Datetime string `bun:"datetime"`
	Username string `bun:"username"`
	Host     string `bun:"host"`
	Action   string `bun:"action"`
	Object   string `bun:"object"`
}

func toAudit(r report.AuditRow) auditRow {
	return auditRow{
		Seq: r.Seq, At: stamp(r.Time), Datetime: r.Datetime, Username: clean(r.User), Host: clean(r.Host),
		Action: clean(r.Action), Object: clean(r.Object),
	}
}

func (r auditRow) row() report.AuditRow {
	return report.AuditRow{
		ID: r.ID, Seq: r.Seq, Time: unstamp(r.At), Datetime: wall(r.Datetime), User: r.Username, Host: r.Host,
		Action: r.Action, Object: r.Object,
	}
}

type poisonRow struct {
	bun.BaseModel `bun:"table:poisoned_facts,alias:t"`

	ID     int64  `bun:"id,pk,autoincrement"`
	Seq    uint64 `bun:"seq"`
	At     int64  `bun:"at"`
	FactID string `bun:"fact_id"`
	Kind   string `bun:"kind"`
	Data   string `bun:"data"`
	Error  string `bun:"error"`
}

func toPoison(r report.PoisonRow) poisonRow {
	return poisonRow{
		Seq: r.Seq, At: stamp(r.Time), FactID: clean(r.FactID), Kind: clean(r.Kind), Data: clean(r.Data), Error: clean(r.Error),
	}
}

func (r poisonRow) row() report.PoisonRow {
	return report.PoisonRow{
		ID: r.ID, Seq: r.Seq, Time: unstamp(r.At), FactID: r.FactID, Kind: r.Kind, Data: r.Data, Error: r.Error,
	}
}

// clean takes out what PostgreSQL refuses in a text: NUL and broken UTF-8.
func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}

// wall returns a datetime column in one form: PostgreSQL's driver gives RFC
// 3339 where SQLite gives back the text.
func wall(s string) string {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.Format(report.DatetimeLayout)
	}
	return s
}

func nullTime(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: stamp(t), Valid: !t.IsZero()}
}
