package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/cordboard/cordboard/gateway/campaign"
	"github.com/cordboard/cordboard/gateway/trunk"
)

func (d *DB) campaigns() docTable {
	return docTable{name: "campaigns", key: "name", what: "campaign"}
}

// PutCampaign makes a campaign (Rev 0) or changes the one of this revision.
func (d *DB) PutCampaign(ctx context.Context, c campaign.Campaign) error {
	return d.campaigns().put(ctx, d.write, c.Name, c.Rev, c, nil)
}

// Campaign returns a campaign by name.
func (d *DB) Campaign(ctx context.Context, name string) (c campaign.Campaign, err error) {
	err = d.campaigns().get(ctx, d.read, "name", name, func(rev uint64, doc []byte) error {
		err := json.Unmarshal(doc, &c)
		c.Rev = rev
		return err
	})
	return c, err
}

// Campaigns returns all campaigns by name.
func (d *DB) Campaigns(ctx context.Context) ([]campaign.Campaign, error) {
	var list []campaign.Campaign
	err := d.campaigns().all(ctx, d.read, func(rev uint64, doc []byte) error {
		var c campaign.Campaign
		err := json.Unmarshal(doc, &c)
		c.Rev = rev
		list = append(list, c)
		return err
	})
	return list, err
}

// DeleteCampaign deletes a campaign and its dispositions.
func (d *DB) DeleteCampaign(ctx context.Context, name string) error {
	return d.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model((*dispositionRow)(nil)).Where("campaign = ?", name).Exec(ctx)
		if err != nil {
			return wrap(err, "delete campaign %q", name)
		}
		return d.campaigns().remove(ctx, tx, name)
	})
}

type dispositionRow struct {
	bun.BaseModel `bun:"table:campaign_dispositions,alias:cd"`

	Campaign string `bun:"campaign,pk"`
	L1       string `bun:"l1,pk"`
	L2       string `bun:"l2,pk"`
	L3       string `bun:"l3,pk"`
	Action   string `bun:"action"`
	Place    int    `bun:"place"`
}

// PutDispositions replaces the dispositions of a campaign, in their order.
func (d *DB) PutDispositions(ctx context.Context, name string, list []campaign.Disposition) error {
	rows := make([]dispositionRow, 0, len(list))
	for i, x := range list {
		rows = append(rows, dispositionRow{Campaign: name, L1: x.L1, L2: x.L2, L3: x.L3, Action: x.Action, Place: i})
	}
	return d.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model((*dispositionRow)(nil)).Where("campaign = ?", name).Exec(ctx)
		if err == nil && len(rows) > 0 {
			_, err = tx.NewInsert().Model(&rows).Exec(ctx)
		}
		return wrap(err, "store dispositions of %q", name)
	})
}

// DispositionsOf returns the dispositions of a campaign, in their order.
func (d *DB) DispositionsOf(ctx context.Context, name string) ([]campaign.Disposition, error) {
	return d.listDispositions(ctx, d.read.NewSelect().Model((*dispositionRow)(nil)).
		Where("campaign = ?", name).OrderExpr("place"))
}

// AllDispositions returns the dispositions of all campaigns.
func (d *DB) AllDispositions(ctx context.Context) ([]campaign.Disposition, error) {
	return d.listDispositions(ctx, d.read.NewSelect().Model((*dispositionRow)(nil)).OrderExpr("campaign, place"))
}

func (d *DB) listDispositions(ctx context.Context, q *bun.SelectQuery) ([]campaign.Disposition, error) {
	var rows []dispositionRow
	if err := q.Scan(ctx, &rows); err != nil {
		return nil, wrap(err, "list dispositions")
	}
	list := make([]campaign.Disposition, 0, len(rows))
	for _, r := range rows {
		list = append(list, campaign.Disposition{Campaign: r.Campaign, L1: r.L1, L2: r.L2, L3: r.L3, Action: r.Action})
	}
	return list, nil
}

func (d *DB) trunks() docTable { return docTable{name: "trunks", key: "name", what: "trunk"} }

// PutTrunk makes a trunk (Rev 0) or changes the one of this revision.
func (d *DB) PutTrunk(ctx context.Context, t trunk.Trunk) error {
	return d.trunks().put(ctx, d.write, t.Name, t.Rev, t, nil)
}

// Trunk returns a trunk by name.
func (d *DB) Trunk(ctx context.Context, name string) (t trunk.Trunk, err error) {
	err = d.trunks().get(ctx, d.read, "name", name, func(rev uint64, doc []byte) error {
		err := json.Unmarshal(doc, &t)
		t.Rev = rev
		return err
	})
	return t, err
}

// Trunks returns all trunks by name.
func (d *DB) Trunks(ctx context.Context) ([]trunk.Trunk, error) {
	var list []trunk.Trunk
	err := d.trunks().all(ctx, d.read, func(rev uint64, doc []byte) error {
		var t trunk.Trunk
		err := json.Unmarshal(doc, &t)
		t.Rev = rev
		list = append(list, t)
		return err
	})
	return list, err
}

// DeleteTrunk deletes a trunk.
func (d *DB) DeleteTrunk(ctx context.Context, name string) error {
	return d.trunks().remove(ctx, d.write, name)
}

// Setting reads the setting of this name into v.
func (d *DB) Setting(ctx context.Context, name string, v any) error {
	var text string
	err := d.read.NewSelect().Table("settings").Column("value").Where("name = ?", name).Scan(ctx, &text)
	if err != nil {
		return wrap(err, "setting %q", name)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fmt.Errorf("decode setting %q: %w", name, err)
	}
	return nil
}

// PutSetting stores v, which must be JSON, as the setting of this name.
func (d *DB) PutSetting(ctx context.Context, name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode setting %q: %w", name, err)
	}
	row := map[string]any{"name": name, "value": string(text)}
	_, err = d.write.NewInsert().Model(&row).Table("settings").
		On("CONFLICT (name) DO UPDATE").Set("value = EXCLUDED.value").Exec(ctx)
	return wrap(err, "store setting %q", name)
}

// DeleteSetting deletes the setting of this name.
func (d *DB) DeleteSetting(ctx context.Context, name string) error {
	res, err := d.write.NewDelete().Table("settings").Where("name = ?", name).Exec(ctx)
	return gone(res, err, "delete setting %q", name)
}
