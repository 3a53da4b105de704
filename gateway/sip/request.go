package sip

import (
	"strings"
	"sync"
)

// Request is a request that arrived. It is read-only and safe for concurrent
// use.
type Request struct {
	m  *message
	tx *serverTx
}

// Method returns the method.
func (r *Request) Method() string { return r.m.method }

// URI returns the Request-URI.
func (r *Request) URI() URI { return r.m.uri }

// From returns the From header.
func (r *Request) From() Address { return r.m.from }

// To returns the To header.
func (r *Request) To() Address { return r.m.to }

// CallID returns the Call-ID.
func (r *Request) CallID() string { return r.m.callID }

// CSeq returns the sequence number.
func (r *Request) CSeq() uint32 { return r.m.cseq }

// Contacts returns all contacts of all Contact headers.
func (r *Request) Contacts() []Contact { return r.m.contacts }

// Header returns the first value of a header, "" if there is none. Names are
// the long ones, without regard to case.
func (r *Request) Header(name string) string { return r.m.header(name) }

// Headers returns all values of a header, one per line of the message.
func (r *Request) Headers(name string) []string { return r.m.all(name) }

// Body returns the body; it must not be changed.
func (r *Request) Body() []byte { return r.m.body }

// Flow returns the path that it came by.
func (r *Request) Flow() Flow { return r.m.flow }

// Supports reports whether the peer lists an extension in Supported or
// Require.
func (r *Request) Supports(tag string) bool {
	return r.m.lists("Supported", tag) || r.m.lists("Require", tag)
}

// Respond sends a response. After the first final one it returns ErrAnswered.
func (r *Request) Respond(code int, reason string, headers ...Header) error {
	return r.tx.respond(code, reason, headers, "", nil)
}

// RespondBody is Respond with a body.
func (r *Request) RespondBody(code int, reason, contentType string, body []byte, headers ...Header) error {
	return r.tx.respond(code, reason, headers, contentType, body)
}

// Response is a final response.
type Response struct {
	Code   int
	Reason string
	Flow   Flow // the path that it came by
	Body   []byte
	m      *message
}

func responseOf(m *message) Response {
	return Response{Code: m.code, Reason: m.reason, Flow: m.flow, Body: m.body, m: m}
}

// Header returns the first value of a header, "" if there is none.
func (r Response) Header(name string) string {
	if r.m == nil {
		return ""
	}
	return r.m.header(name)
}

// Headers returns all values of a header, one per line of the message.
func (r Response) Headers(name string) []string {
	if r.m == nil {
		return nil
	}
	return r.m.all(name)
}

// Contacts returns all contacts of all Contact headers that can be read.
func (r Response) Contacts() []Contact {
	var out []Contact
	for _, v := range r.Headers("Contact") {
		if cs, err := ParseContacts(v); err == nil {
			out = append(out, cs...)
		}
	}
	return out
}

// reasonOf returns the usual phrase of a status code.
func reasonOf(code int) string {
	switch code {
	case 100:
		return "Trying"
	case 180:
		return "Ringing"
	case 181:
		return "Call Is Being Forwarded"
	case 182:
		return "Queued"
	case 183:
		return "Session Progress"
	case 200:
		return "OK"
	case 202:
		return "Accepted"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 406:
		return "Not Acceptable"
	case 407:
		return "Proxy Authentication Required"
	case 408:
		return "Request Timeout"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Unsupported URI Scheme"
	case 420:
		return "Bad Extension"
	case 422:
		return "Session Interval Too Small"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 482:
		return "Loop Detected"
	case 483:
		return "Too Many Hops"
	case 486:
		return "Busy Here"
	case 487:
		return "Request Terminated"
	case 488:
		return "Not Acceptable Here"
	case 491:
		return "Request Pending"
	case 500:
		return "Server Internal Error"
	case 501:
		return "Not Implemented"
	case 503:
		return "Service Unavailable"
	case 603:
		return "Decline"
	}
	if code < 200 {
		return "Progress"
	}
	return "Status"
}

// cleanHeaders refuses header fields that would break the message.
func cleanHeaders(hs []Header) error {
	for _, h := range hs {
		if !isToken(h.Name) || strings.ContainsAny(h.Value, "\r\n") {
			return syntaxErr("header", h.Name+": "+h.Value)
		}
	}
	return nil
}

// onceError keeps the first error given to it.
type onceError struct {
	mu  sync.Mutex
	err error
}

func (o *onceError) set(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
}

func (o *onceError) get() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
