package store

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/cordboard/cordboard/gateway/apply"
)

// WriteState implements apply.Store: all of it or nothing, by the rule of
// revisions.
func (d *DB) WriteState(ctx context.Context, c apply.Changes) error {
	return d.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		// deletions first, so that an extension or a DID may move
		for _, name := range c.DeleteUsers {
			name = Fold(name)
			for _, table := range []string{"sessions", "password_history"} {
				if _, err := tx.NewDelete().Table(table).Where("username = ?", name).Exec(ctx); err != nil {
					return wrap(err, "delete user %q", name)
				}
			}
			if err := d.users().remove(ctx, tx, name); err != nil {
				return err
			}
		}
		for _, name := range c.DeleteTrunks {
			if err := d.trunks().remove(ctx, tx, name); err != nil {
				return err
			}
		}
		for _, name := range c.DeleteCampaigns {
			if _, err := tx.NewDelete().Model((*dispositionRow)(nil)).Where("campaign = ?", name).Exec(ctx); err != nil {
				return wrap(err, "delete campaign %q", name)
			}
			if err := d.campaigns().remove(ctx, tx, name); err != nil {
				return err
			}
		}
		return d.writeObjects(ctx, tx, c)
	})
}

func (d *DB) writeObjects(ctx context.Context, tx bun.Tx, c apply.Changes) error {
	// extensions are unique: those that change are given up before they are
	// taken, so that two users can swap them
	for _, u := range c.Users {
		if u.Rev == 0 {
			continue
		}
		if _, err := tx.NewUpdate().Table("users").Set("extension = NULL").Where("username = ?", Fold(u.Username)).Exec(ctx); err != nil {
			return wrap(err, "change user %q", u.Username)
		}
	}
	for _, u := range c.Users {
		extra := map[string]any{"extension": nil}
		if u.Extension != "" {
			extra["extension"] = u.Extension
		}
		if err := d.users().put(ctx, tx, Fold(u.Username), u.Rev, u, extra); err != nil {
			return err
		}
	}
	for _, t := range c.Trunks {
		if err := d.trunks().put(ctx, tx, t.Name, t.Rev, t, nil); err != nil {
			return err
		}
	}
	for _, x := range c.Campaigns {
		if err := d.campaigns().put(ctx, tx, x.Name, x.Rev, x, nil); err != nil {
			return err
		}
	}
	for name, list := range c.Dispositions {
		rows := make([]dispositionRow, 0, len(list))
		for i, x := range list {
			rows = append(rows, dispositionRow{Campaign: name, L1: x.L1, L2: x.L2, L3: x.L3, Action: x.Action, Place: i})
		}
		if _, err := tx.NewDelete().Model((*dispositionRow)(nil)).Where("campaign = ?", name).Exec(ctx); err != nil {
			return wrap(err, "store dispositions of %q", name)
		}
		if len(rows) > 0 {
			if _, err := tx.NewInsert().Model(&rows).Exec(ctx); err != nil {
				return wrap(err, "store dispositions of %q", name)
			}
		}
	}
	return nil
}
