// Package config owns the gateway's configuration: its keys, their defaults,
// the YAML file and the environment variables that set them, and the check that
// names every wrong key with its line and reason.
package config
