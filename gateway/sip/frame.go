package sip

import (
	"bytes"
	"strings"
)

// nextFrame finds the message at the start of buf, a piece of a stream. It
// returns the bytes to skip (CRLF between messages), the length of the whole
// message after them, 0 if more bytes are needed, or an error to answer before
// closing: a stream without boundaries cannot be read on.
func nextFrame(buf []byte, limit int) (skip, n int, bad *parseError) {
	for skip+1 < len(buf) && buf[skip] == '\r' && buf[skip+1] == '\n' {
		skip += 2
	}
	buf = buf[skip:]
	end := bytes.Index(buf, []byte("\r\n\r\n"))
	if end < 0 {
		if len(buf) > limit {
			return skip, 0, &parseError{513, "Message Too Large"}
		}
		return skip, 0, nil
	}
	length := -1
	head := string(buf[:end])
	if strings.Contains(head, "\r\n ") || strings.Contains(head, "\r\n\t") { // folded lines
		head = strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(head)
	}
	for line := range strings.SplitSeq(head, "\r\n") {
		name, value, ok := strings.Cut(line, ":")
		if !ok || !strings.EqualFold(longName(strings.TrimSpace(name)), "Content-Length") {
			continue
		}
		v, ok := parseDigits(strings.TrimSpace(value), 1<<30)
		if !ok || length >= 0 {
			return skip, 0, &parseError{400, "Bad Content-Length"}
		}
		length = v
	}
	if length < 0 {
		return skip, 0, &parseError{400, "Missing Content-Length"}
	}
	n = end + 4 + length
	if n > limit {
		return skip, 0, &parseError{413, "Request Entity Too Large"}
	}
	if n > len(buf) {
		return skip, 0, nil
	}
	return skip, n, nil
}
