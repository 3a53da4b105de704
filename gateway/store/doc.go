// Package store keeps the gateway's state and its report tables in SQLite (the
// default) or PostgreSQL, with the same code on both. It owns the tables and
// their migrations; what is stored, and the rules for it, belong to the domain
// packages, whose small Store interfaces the methods of DB satisfy.
//
// Users, campaigns and trunks carry a revision. Putting one with revision 0
// makes it, and fails with ErrConflict when it exists; with another revision it
// replaces the one that has this revision, which is one higher afterwards.
package store
