package report

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/cordboard/cordboard/gateway/event"
)

// mapper turns facts into changes. It belongs to one goroutine.
type mapper struct {
	loc *time.Location
	st  *state
}

// maxPoison bounds what is kept of a fact that was put aside, in bytes.
const maxPoison = 64 << 10

// change says what a fact means. A fact that cannot be read becomes a poison
// row, and nothing of it is applied.
func (m *mapper) change(f event.Fact) Change {
	c := &changing{m: m, f: f, Change: Change{Seq: f.Seq}}
	if err := c.apply(); err != nil {
		return poisoned(f, err)
	}
	return c.Change
}

func poisoned(f event.Fact, err error) Change {
	data := string(f.Data)
	if len(data) > maxPoison {
		data = data[:maxPoison]
	}
	return Change{Seq: f.Seq, Poison: []PoisonRow{{
		Seq: f.Seq, Time: f.Time, FactID: f.ID, Kind: string(f.Type), Data: data, Error: err.Error(),
	}}}
}

func (m *mapper) wall(t time.Time) string { return t.In(m.loc).Format(DatetimeLayout) }

// changing is a change that is being made of a fact.
type changing struct {
	Change

	m *mapper
	f event.Fact
}

// on decodes the payload and hands it to fn.
func on[T any](c *changing, fn func(T) error) error {
	var p T
	if err := json.Unmarshal(c.f.Data, &p); err != nil {
		return fmt.Errorf("decode %s: %w", c.f.Type, err)
	}
	return fn(p)
}

func (c *changing) apply() error {
	if done, err := c.agentFact(); done {
		return err
	}
	if done, err := c.queueFact(); done {
		return err
	}
	if done, err := c.callFact(); done {
		return err
	}
	switch c.f.Type { //nolint:exhaustive // what no table shows is passed over
	case event.KindGatewayStarted:
		c.log(QueueLogRow{Event: "QUEUESTART"})
		return nil
	case event.KindAudit:
		return on(c, c.audit)
	case event.KindMalformed:
		return fmt.Errorf("message is not a fact")
	}
	return nil
}

// log adds a row to the queue log.
func (c *changing) log(r QueueLogRow, data ...string) {
	r.Seq, r.Time, r.Datetime = c.f.Seq, c.f.Time, c.m.wall(c.f.Time)
	if r.OrigID == "" {
		r.OrigID = r.CallID
	}
	if r.OrigID == "" {
		if a := c.m.st.agents[r.Agent]; a != nil && a.SignIn != nil {
			r.OrigID = a.SignIn.Session
		}
	}
	if call := c.m.st.calls[r.CallID]; call != nil && r.Number == "" {
		r.Number = call.number()
	}
	copy(r.Data[:], data)
	c.QueueLog = append(c.QueueLog, r)
}

func (c *changing) audit(p event.Audit) error {
	c.Audit = append(c.Audit, AuditRow{
		Seq: c.f.Seq, Time: c.f.Time, Datetime: c.m.wall(c.f.Time),
		User: p.User, Host: p.Host, Action: p.Action, Object: p.Object,
	})
	return nil
}

func num[T int | int64](n T) string { return strconv.FormatInt(int64(n), 10) }

// seconds between two times, never below zero.
func seconds(from, to time.Time) int64 {
	if from.IsZero() || to.Before(from) {
		return 0
	}
	return int64(to.Sub(from) / time.Second)
}
