package store

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"golang.org/x/text/unicode/norm"

	"github.com/cordboard/cordboard/gateway/auth"
)

var _ auth.Store = (*DB)(nil)

// Fold returns the form in which user names are compared: case and the way in
// which accents are encoded make no difference, the accents themselves do.
func Fold(username string) string {
	return norm.NFC.String(strings.ToLower(norm.NFC.String(strings.TrimSpace(username))))
}

func (d *DB) users() docTable { return docTable{name: "users", key: "username", what: "user"} }

// PutUser makes a user (Rev 0) or changes the one that has this revision.
func (d *DB) PutUser(ctx context.Context, u auth.User) error {
	extra := map[string]any{"extension": nil}
	if u.Extension != "" {
		extra["extension"] = u.Extension
	}
	return d.users().put(ctx, d.write, Fold(u.Username), u.Rev, u, extra)
}

// User returns a user by name.
func (d *DB) User(ctx context.Context, username string) (auth.User, error) {
	return d.user(ctx, "username", Fold(username))
}

// UserByExtension returns the user who has the extension.
func (d *DB) UserByExtension(ctx context.Context, extension string) (auth.User, error) {
	return d.user(ctx, "extension", extension)
}

func (d *DB) user(ctx context.Context, column, val string) (u auth.User, err error) {
	err = d.users().get(ctx, d.read, column, val, func(rev uint64, doc []byte) error {
		err := json.Unmarshal(doc, &u)
		u.Rev = rev
		return err
	})
	return u, err
}

// Users returns all users by name.
func (d *DB) Users(ctx context.Context) ([]auth.User, error) {
	var list []auth.User
	err := d.users().all(ctx, d.read, func(rev uint64, doc []byte) error {
		var u auth.User
		err := json.Unmarshal(doc, &u)
		u.Rev = rev
		list = append(list, u)
		return err
	})
	return list, err
}

// DeleteUser deletes a user, their sessions and their former passwords.
func (d *DB) DeleteUser(ctx context.Context, username string) error {
	name := Fold(username)
	return d.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		for _, table := range []string{"sessions", "password_history"} {
			if _, err := tx.NewDelete().Table(table).Where("username = ?", name).Exec(ctx); err != nil {
				return wrap(err, "delete user %q", username)
			}
		}
		return d.users().remove(ctx, tx, name)
	})
}

// SignedIn stores when a user last signed in. It leaves the revision alone, so
// that nobody's edit of the user is refused for it.
func (d *DB) SignedIn(ctx context.Context, username string, at time.Time) error {
	return d.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		var u auth.User
		q := tx.NewSelect().Table("users").Column("doc").Where("username = ?", Fold(username))
		if d.engine == PostgreSQL {
			q = q.For("UPDATE")
		}
		var doc string
		if err := q.Scan(ctx, &doc); err != nil {
			return wrap(err, "sign-in of %q", username)
		}
		if err := json.Unmarshal([]byte(doc), &u); err != nil {
			return wrap(err, "decode user %q", username)
		}
		u.LastSignInAt = at.UTC()
		b, err := json.Marshal(u)
		if err != nil {
			return wrap(err, "encode user %q", username)
		}
		_, err = tx.NewUpdate().Table("users").Set("doc = ?", string(b)).Where("username = ?", Fold(username)).Exec(ctx)
		return wrap(err, "sign-in of %q", username)
	})
}

// AddPasswordHash remembers a password that a user has had (SEC-06), and
// forgets all but the newest keep of them.
func (d *DB) AddPasswordHash(ctx context.Context, username, hash string, at time.Time, keep int) error {
	name := Fold(username)
	return d.write.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		row := map[string]any{"username": name, "hash": hash, "at": stamp(at)}
		if _, err := tx.NewInsert().Model(&row).Table("password_history").Exec(ctx); err != nil {
			return wrap(err, "remember password of %q", username)
		}
		newest := tx.NewSelect().Table("password_history").Column("id").
			Where("username = ?", name).OrderExpr("id DESC").Limit(int64(max(keep, 1)))
		_, err := tx.NewDelete().Table("password_history").
			Where("username = ?", name).Where("id NOT IN (?)", newest).Exec(ctx)
		return wrap(err, "forget old passwords of %q", username)
	})
}

// PasswordHashes returns the newest n of a user's passwords, newest first.
func (d *DB) PasswordHashes(ctx context.Context, username string, n int) ([]string, error) {
	var hashes []string
	err := d.read.NewSelect().Table("password_history").Column("hash").
		Where("username = ?", Fold(username)).OrderExpr("id DESC").Limit(int64(max(n, 1))).Scan(ctx, &hashes)
	return hashes, wrap(err, "passwords of %q", username)
}
