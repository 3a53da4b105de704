// Package api holds the wire types of the gateway's REST API and of its events.
// JSON is camelCase, names carry their unit, times are RFC 3339 in UTC. The
// package is a leaf, so that clients take nothing else from the gateway.
package api
