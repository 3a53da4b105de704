package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/auth"
	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/event"
	"github.com/cordboard/cordboard/gateway/trunk"
)

// TrunkPurpose is the purpose for which trunk passwords are sealed.
const TrunkPurpose = "trunk"

// Kinds of objects in a state.
const (
	KindTrunk       = "trunk"
	KindUser        = "user"
	KindCampaign    = "campaign"
	KindDisposition = "disposition"
)

// Errors of the engine, beside *InvalidError.
var (
	// ErrConflict says that an object was changed by somebody else meanwhile.
	ErrConflict = errors.New("the object was changed meanwhile")
	// ErrNotFound says that the object does not exist.
	ErrNotFound = errors.New("there is no such object")
)

// InvalidError says what is wrong with a state, by place.
type InvalidError struct {
	Fields []api.ProblemField
}

// Error implements error.
func (e *InvalidError) Error() string {
	if len(e.Fields) == 0 {
		return "the state is not valid"
	}
	f := e.Fields[0]
	return fmt.Sprintf("the state is not valid: %s: %s (%d in all)", f.Location, f.Message, len(e.Fields))
}

// Changes is what one transaction writes. Objects carry the Rev that they were
// read with, 0 for new ones.
type Changes struct {
	Trunks          []trunk.Trunk
	Users           []auth.User
	Campaigns       []campaign.Campaign
	DeleteTrunks    []string
	DeleteUsers     []string
	DeleteCampaigns []string
	// Dispositions replaces the list of each named campaign.
	Dispositions map[string][]campaign.Disposition
}

// Empty reports whether nothing is to be written.
func (c *Changes) Empty() bool {
	return len(c.Trunks)+len(c.Users)+len(c.Campaigns)+len(c.DeleteTrunks)+len(c.DeleteUsers)+len(c.DeleteCampaigns)+len(c.Dispositions) == 0
}

// Store reads the objects and writes changes of them.
type Store interface {
	Trunks(ctx context.Context) ([]trunk.Trunk, error)
	Users(ctx context.Context) ([]auth.User, error)
	Campaigns(ctx context.Context) ([]campaign.Campaign, error)
	AllDispositions(ctx context.Context) ([]campaign.Disposition, error)
	// WriteState writes all of it or nothing; a wrong Rev is fs.ErrExist.
	WriteState(ctx context.Context, c Changes) error
}

// Options of New; all but Country and Changed are needed.
type Options struct {
	Store   Store
	Auth    *auth.Service
	Journal event.Journal
	Log     *slog.Logger
	// Country is that of numbers without a country code.
	Country string
	// Changed is told after each write, in order, so that the running parts
	// read the objects again.
	Changed func(ctx context.Context) error
}

// Engine is the one writer of users, trunks, campaigns and dispositions. It is
// safe for concurrent use.
type Engine struct {
	o Options
}

// New returns an engine.
func New(o Options) *Engine {
	if o.Changed == nil {
		o.Changed = func(context.Context) error { return nil }
	}
	return &Engine{o: o}
}

// Request is one change of the state.
type Request struct {
	State api.State
	// Prune deletes what the state does not name.
	Prune  bool
	DryRun bool
	// Exact names campaigns whose dispositions become those of State and no
	// others.
	Exact []string
	// Delete names objects to delete, as KIND/NAME.
	Delete []string
	// Expect holds the Rev that an object must have, as KIND/NAME; 0 = it must
	// not exist.
	Expect map[string]uint64
	// By and Remote go to the audit.
	By     string
	Remote netip.Addr
}

// Apply makes the state so and returns what that changes. Errors: *InvalidError,
// ErrConflict, ErrNotFound, or those of the store.
func (e *Engine) Apply(ctx context.Context, r Request) (api.Diff, error) {
	release, err := e.o.Auth.Exclusive(ctx)
	if err != nil {
		return api.Diff{}, err
	}
	defer release()
	p, err := e.plan(ctx, r)
	if err != nil {
		return api.Diff{}, err
	}
	if err := p.run(ctx); err != nil {
		return api.Diff{}, err
	}
	diff := api.Diff{Changes: p.diff, DryRun: r.DryRun, Warnings: p.warnings}
	if diff.Changes == nil {
		diff.Changes = []api.Change{}
	}
	if r.DryRun || p.changes.Empty() {
		return diff, nil
	}
	if err := e.o.Store.WriteState(ctx, p.changes); err != nil {
		return api.Diff{}, storeError(err)
	}
	// written: what follows must happen whether or not the client still waits
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err = errors.Join(e.o.Auth.Reload(after, p.passwords...), e.o.Changed(after))
	e.facts(after, r, p)
	if err != nil {
		return api.Diff{}, fmt.Errorf("written, but not taken over: %w", err)
	}
	return diff, nil
}

// Export returns the whole state without secrets.
func (e *Engine) Export(ctx context.Context) (api.State, error) {
	c, err := e.read(ctx)
	if err != nil {
		return api.State{}, err
	}
	var s api.State
	for _, t := range c.trunks {
		s.Trunks = append(s.Trunks, TrunkOf(t))
	}
	for _, u := range c.users {
		s.Users = append(s.Users, UserOf(u))
	}
	for i := range c.campaigns {
		s.Campaigns = append(s.Campaigns, CampaignOf(&c.campaigns[i]))
	}
	for _, d := range c.dispositions {
		s.Dispositions = append(s.Dispositions, DispositionOf(d))
	}
	return s, nil
}

// Trunks returns the trunks as stored.
func (e *Engine) Trunks(ctx context.Context) ([]trunk.Trunk, error) {
	list, err := e.o.Store.Trunks(ctx)
	return list, wrap("read trunks", err)
}

// Campaigns returns the campaigns as stored.
func (e *Engine) Campaigns(ctx context.Context) ([]campaign.Campaign, error) {
	list, err := e.o.Store.Campaigns(ctx)
	return list, wrap("read campaigns", err)
}

// Dispositions returns the dispositions of all campaigns.
func (e *Engine) Dispositions(ctx context.Context) ([]campaign.Disposition, error) {
	list, err := e.o.Store.AllDispositions(ctx)
	return list, wrap("read dispositions", err)
}

func wrap(doing string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// facts journals who changed what (SEC-21).
func (e *Engine) facts(ctx context.Context, r Request, p *plan) {
	host := ""
	if r.Remote.IsValid() {
		host = r.Remote.Unmap().String()
	}
	var list []event.Payload
	for _, c := range p.diff {
		list = append(list, event.Audit{User: r.By, Host: host, Action: c.Op + " " + c.Kind, Object: c.Name})
	}
	const batch = 200
	for len(list) > 0 {
		n := min(batch, len(list))
		if err := e.o.Journal.Append(ctx, time.Now(), list[:n]...); err != nil {
			e.o.Log.ErrorContext(ctx, "audit facts not taken", "count", n, "err", err)
		}
		list = list[n:]
	}
}
