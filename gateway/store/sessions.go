package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/cordboard/cordboard/gateway/auth"
)

type sessionRow struct {
	bun.BaseModel `bun:"table:sessions,alias:s"`

	ID         string         `bun:"id,pk"`
	Username   string         `bun:"username"`
	TokenHash  string         `bun:"token_hash"`
	SIPUser    sql.NullString `bun:"sip_user"`
	TURNUser   sql.NullString `bun:"turn_user"`
	ExpiresAt  int64          `bun:"expires_at"`
	LastSeenAt int64          `bun:"last_seen_at"`
	Doc        string         `bun:"doc"`
}

func (r *sessionRow) session() (auth.Session, error) {
	var s auth.Session
	if err := json.Unmarshal([]byte(r.Doc), &s); err != nil {
		return auth.Session{}, fmt.Errorf("decode session %q: %w", r.ID, err)
	}
	s.ExpiresAt, s.LastSeenAt = unstamp(r.ExpiresAt), unstamp(r.LastSeenAt)
	return s, nil
}

// PutSession stores a session, new or changed.
func (d *DB) PutSession(ctx context.Context, s auth.Session) error {
	doc, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode session %q: %w", s.ID, err)
	}
	row := &sessionRow{
		ID: s.ID, Username: Fold(s.Username), TokenHash: hex.EncodeToString(s.TokenHash),
		SIPUser: nullable(s.SIPUser), TURNUser: nullable(s.TURNUser),
		ExpiresAt: stamp(s.ExpiresAt), LastSeenAt: stamp(s.LastSeenAt), Doc: string(doc),
	}
	_, err = d.write.NewInsert().Model(row).On("CONFLICT (id) DO UPDATE").Exec(ctx)
	return wrap(err, "store session %q", s.ID)
}

// Session returns a session by its id.
func (d *DB) Session(ctx context.Context, id string) (auth.Session, error) {
	return d.session(ctx, "id", id)
}

// SessionByTokenHash returns the session of a bearer token.
func (d *DB) SessionByTokenHash(ctx context.Context, hash []byte) (auth.Session, error) {
	return d.session(ctx, "token_hash", hex.EncodeToString(hash))
}

// SessionBySIPUser returns the session whose phone registers as this user.
func (d *DB) SessionBySIPUser(ctx context.Context, sipUser string) (auth.Session, error) {
	return d.session(ctx, "sip_user", sipUser)
}

// SessionByTURNUser returns the session of a TURN credential.
func (d *DB) SessionByTURNUser(ctx context.Context, turnUser string) (auth.Session, error) {
	return d.session(ctx, "turn_user", turnUser)
}

func (d *DB) session(ctx context.Context, column, val string) (auth.Session, error) {
	var row sessionRow
	err := d.read.NewSelect().Model(&row).Where("? = ?", bun.Ident(column), val).Scan(ctx)
	if err != nil {
		return auth.Session{}, wrap(err, "session")
	}
	return row.session()
}

// Sessions returns all sessions, oldest first.
func (d *DB) Sessions(ctx context.Context) ([]auth.Session, error) {
	return d.listSessions(ctx, d.read.NewSelect().Model((*sessionRow)(nil)).OrderExpr("s.id"))
}

// SessionsOf returns a user's sessions, oldest first.
func (d *DB) SessionsOf(ctx context.Context, username string) ([]auth.Session, error) {
	return d.listSessions(ctx, d.read.NewSelect().Model((*sessionRow)(nil)).
		Where("s.username = ?", Fold(username)).OrderExpr("s.id"))
}

func (d *DB) listSessions(ctx context.Context, q *bun.SelectQuery) ([]auth.Session, error) {
	var rows []sessionRow
	if err := q.Scan(ctx, &rows); err != nil {
		return nil, wrap(err, "list sessions")
	}
	return sessionsOf(rows)
}

func sessionsOf(rows []sessionRow) ([]auth.Session, error) {
	list := make([]auth.Session, 0, len(rows))
	for i := range rows {
		s, err := rows[i].session()
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// TouchSession stores when a session was last seen and how long it lives now.
func (d *DB) TouchSession(ctx context.Context, id string, seen, expires time.Time) error {
	res, err := d.write.NewUpdate().Model((*sessionRow)(nil)).
		Set("last_seen_at = ?", stamp(seen)).Set("expires_at = ?", stamp(expires)).
		Where("id = ?", id).Exec(ctx)
	return gone(res, err, "touch session %q", id)
}

// DeleteSession ends a session.
func (d *DB) DeleteSession(ctx context.Context, id string) error {
	res, err := d.write.NewDelete().Model((*sessionRow)(nil)).Where("id = ?", id).Exec(ctx)
	return gone(res, err, "delete session %q", id)
}

// DeleteExpired deletes the sessions and API tokens that ended before now, and
// returns these sessions.
func (d *DB) DeleteExpired(ctx context.Context, now time.Time) ([]auth.Session, error) {
	var rows []sessionRow
	err := d.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		rows = nil
		_, err := tx.NewDelete().Model(&rows).Where("expires_at <= ?", stamp(now)).Returning("*").Exec(ctx)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return wrap(err, "delete expired sessions")
		}
		_, err = tx.NewDelete().Model((*tokenRow)(nil)).Where("expires_at <= ?", stamp(now)).Exec(ctx)
		return wrap(err, "delete expired tokens")
	})
	if err != nil {
		return nil, err
	}
	return sessionsOf(rows)
}

type tokenRow struct {
	bun.BaseModel `bun:"table:api_tokens,alias:t"`

	ID        string        `bun:"id,pk"`
	TokenHash string        `bun:"token_hash"`
	ExpiresAt sql.NullInt64 `bun:"expires_at"`
	Doc       string        `bun:"doc"`
}

func (r *tokenRow) token() (auth.APIToken, error) {
	var t auth.APIToken
	if err := json.Unmarshal([]byte(r.Doc), &t); err != nil {
		return auth.APIToken{}, fmt.Errorf("decode token %q: %w", r.ID, err)
	}
	return t, nil
}

// PutAPIToken stores a token, new or changed.
func (d *DB) PutAPIToken(ctx context.Context, t auth.APIToken) error {
	doc, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("encode token %q: %w", t.ID, err)
	}
	row := &tokenRow{
		ID: t.ID, TokenHash: hex.EncodeToString(t.TokenHash), Doc: string(doc),
		ExpiresAt: sql.NullInt64{Int64: stamp(t.ExpiresAt), Valid: !t.ExpiresAt.IsZero()},
	}
	_, err = d.write.NewInsert().Model(row).On("CONFLICT (id) DO UPDATE").Exec(ctx)
	return wrap(err, "store token %q", t.ID)
}

// APITokenByHash returns the token whose secret has this hash.
func (d *DB) APITokenByHash(ctx context.Context, hash []byte) (auth.APIToken, error) {
	var row tokenRow
	err := d.read.NewSelect().Model(&row).Where("token_hash = ?", hex.EncodeToString(hash)).Scan(ctx)
	if err != nil {
		return auth.APIToken{}, wrap(err, "token")
	}
	return row.token()
}

// APITokens returns all tokens, oldest first.
func (d *DB) APITokens(ctx context.Context) ([]auth.APIToken, error) {
	var rows []tokenRow
	if err := d.read.NewSelect().Model(&rows).OrderExpr("t.id").Scan(ctx); err != nil {
		return nil, wrap(err, "list tokens")
	}
	list := make([]auth.APIToken, 0, len(rows))
	for i := range rows {
		t, err := rows[i].token()
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

// DeleteAPIToken ends a token.
func (d *DB) DeleteAPIToken(ctx context.Context, id string) error {
	res, err := d.write.NewDelete().Model((*tokenRow)(nil)).Where("id = ?", id).Exec(ctx)
	return gone(res, err, "delete token %q", id)
}

func nullable(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
