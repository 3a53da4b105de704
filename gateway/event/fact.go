package event

import (
	"context"
	"encoding/json"
	"time"
)

// Kind names a type of fact. It is the last token of the fact's subject in the
// stream and the "type" of an event on the wire, so a kind never changes its
// name or meaning once it has been released.
type Kind string

// Payload is what one kind of fact says. Every payload type of this package is
// a plain struct with JSON tags.
type Payload interface {
	// Kind returns the kind that this payload belongs to.
	Kind() Kind
}

// Fact is one thing that happened, as it stands in the stream.
type Fact struct {
	// Seq is the fact's place in the stream, from 1; 0 before it was appended.
	Seq uint64 `json:"seq"`
	// ID is unique for ever; the stream drops a second append of the same ID.
	ID string `json:"id"`
	// Time is when it happened, UTC.
	Time time.Time `json:"time"`
	// Type is the payload's kind.
	Type Kind `json:"type"`
	// Data is the payload as JSON.
	Data json.RawMessage `json:"data"`
}

// Journal appends facts. Its implementations are safe for concurrent use.
type Journal interface {
	// Append makes facts of the payloads, all happening at the time at, and
	// returns when the stream holds them, or after 100 ms at the latest: facts
	// that the stream did not take by then are kept in bounded memory and
	// appended later in their order. The error is only ever that of a full
	// memory, of a closed journal, or of a payload that is not JSON.
	Append(ctx context.Context, at time.Time, payloads ...Payload) error
}
