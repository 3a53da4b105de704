package trunk

// FailsOver reports whether a call that failed with a SIP status before it was
// answered goes to the next trunk: the carrier failed, and not the called
// party. Busy, no such number, refused or no answer is said by the called
// party's side, and would be said again.
func FailsOver(code int) bool {
	switch code {
	case 401, 407: // our credentials there are wrong
		return true
	case 408: // no answer from the carrier
		return true
	case 580: // our own offer's conditions
		return false
	}
	return code >= 500 && code <= 599
}
