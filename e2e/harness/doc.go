// Package harness runs whole gateways, phones and foreign peers for the tests
// of the whole (build tag e2e).
//
// Start builds bin/gateway and bin/softphone once per test process, gives the
// gateway a data folder and ports of its own on 127.0.0.1 and waits until it is
// ready; so tests may run side by side. A test signs in over REST, applies a
// state file, starts phones, follows the facts, and reads log tables and
// recordings as a user would. Sound is judged by what is heard in a file.
//
// Every process that was started is ended with the test, and no other. On
// failure the gateway's log is printed. A test package calls Main in TestMain,
// so that the programs that were built are removed.
package harness
