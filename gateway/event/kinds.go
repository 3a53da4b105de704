package event

// The kinds of facts. A reader ignores kinds that it does not know.
const (
	KindGatewayStarted Kind = "gateway.started"

	KindAgentSignedIn     Kind = "agent.signedIn"
	KindAgentSignedOut    Kind = "agent.signedOut"
	KindAgentState        Kind = "agent.state"
	KindAgentPaused       Kind = "agent.paused"
	KindAgentUnpaused     Kind = "agent.unpaused"
	KindBreakStarted      Kind = "break.started"
	KindBreakEnded        Kind = "break.ended"
	KindWrapUpStarted     Kind = "wrapUp.started"
	KindWrapUpFinished    Kind = "wrapUp.finished"
	KindMemberAdded       Kind = "member.added"
	KindMemberRemoved     Kind = "member.removed"
	KindQueueCreated      Kind = "queue.created"
	KindQueueEntered      Kind = "queue.entered"
	KindQueueReentered    Kind = "queue.reentered"
	KindQueueLeft         Kind = "queue.left"
	KindOfferMade         Kind = "offer.made"
	KindOfferEnded        Kind = "offer.ended"
	KindQueueConnected    Kind = "queue.connected"
	KindQueueCompleted    Kind = "queue.completed"
	KindCallStarted       Kind = "call.started"
	KindCallLegRinging    Kind = "call.legRinging"
	KindCallAnswered      Kind = "call.answered"
	KindCallHeld          Kind = "call.held"
	KindCallUnheld        Kind = "call.unheld"
	KindCallAgentLost     Kind = "call.agentLost"
	KindCallAgentBack     Kind = "call.agentBack"
	KindCallLegEnded      Kind = "call.legEnded"
	KindCallEnded         Kind = "call.ended"
	KindOutCallEnded      Kind = "call.outEnded"
	KindCallQuality       Kind = "call.quality"
	KindRecordingStarted  Kind = "recording.started"
	KindRecordingFinished Kind = "recording.finished"
	KindRecordingTagged   Kind = "recording.tagged"
	KindDisposition       Kind = "call.disposition"
	KindAudit             Kind = "audit"
	KindAlarm             Kind = "alarm"

	// KindMalformed is what a reader gets for a message that is no fact: its
	// Data is the message as a JSON string. Nobody appends it.
	KindMalformed Kind = "malformed"
	// KindGap fills sequences that readers saw and a power failure took; its
	// Data is null.
	KindGap Kind = "journal.gap"
)
