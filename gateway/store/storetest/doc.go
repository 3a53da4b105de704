// Package storetest is the suite that every engine of gateway/store passes, and
// starts the PostgreSQL server that it needs.
package storetest
