// Package apply owns the state file: reading and writing its YAML, the engine
// that changes users, trunks, campaigns and dispositions as it says, in one
// transaction, and the commands that send it to a running gateway.
package apply
