// Package backup writes a running gateway's state into one file and makes a
// data folder of such a file again.
//
// The file is a ZIP with the database, the facts, the files of the data folder
// that the caller names (the key of the installation above all), and a
// manifest with the size and SHA-256 of each. The database is taken first and
// the facts after it, so the facts always reach as far as the tables do:
// whatever the tables lack is read from the facts after a restore.
package backup
