// Package report owns the reader that turns facts into the tables that people
// report from (QUEUE_LOG_REPO, CDR_REPO, call quality, recordings,
// dispositions, the audit), and the questions that may be asked of them.
//
// The reader applies facts in batches. The rows of a batch, the state that is
// needed to close what a crash leaves open, and the place in the stream up to
// which facts were applied are written in one transaction: each fact is applied
// exactly once, whenever the process or the database dies.
package report
