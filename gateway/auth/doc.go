// Package auth owns users, their passwords, sessions, API tokens, desk-phone
// devices and the SIP and TURN credentials made from them.
package auth
