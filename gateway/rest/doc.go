// Package rest owns the v1 HTTP API: sign-in, state, live view and reports
// under /api/v1, the events WebSocket, health, metrics and the OpenAPI document.
// Every error is application/problem+json with a stable code.
package rest
