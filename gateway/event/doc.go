// Package event owns the facts of the gateway and the durable stream that keeps
// them. A fact is something that happened (a caller entered a queue, an agent
// took a break). It is appended to the stream before anybody is told of it;
// log tables, reports, live views and webhooks are readers of that stream.
//
// The package is a leaf: it imports nothing of ours.
package event
