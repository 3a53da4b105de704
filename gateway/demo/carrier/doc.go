// Package carrier is a simulated telephone carrier for demonstrations and
// tests: it places customers' calls over real SIP and RTP with speech, sends
// digits, hangs up or waits, and answers calls that come from the gateway. It
// is a user agent of its own beside the gateway and shares no state with it.
package carrier
