// Package doctor tries every leg of a running gateway as a client does and says
// what is wrong and how to mend it. What the gateway knows about itself comes
// from the gateway; what can only be seen from outside, listeners, registration,
// media on every path and the trunks' test numbers, is tried from here.
package doctor
