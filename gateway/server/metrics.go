package server

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cordboard/cordboard/gateway/trunk"
)

// metrics is what /metrics shows. Values are read from the parts when asked.
func (s *Server) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{s})
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// collector reads all parts at once.
type collector struct{ s *Server }

// Describe implements prometheus.Collector: an unchecked collector, because
// its series depend on trunks and states.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	m := sink{ch}
	s := c.s
	m.gauge("cordboard_calls", "Live calls.", float64(s.calls.Count()))
	refused, setUps, average := s.admitted.stats()
	m.counter("cordboard_calls_shed_total", "Calls refused with 503 because the gateway had no time for them.", float64(refused))
	m.gauge("cordboard_call_set_ups", "Calls that are being set up.", float64(setUps))
	m.gauge("cordboard_call_set_up_seconds", "How long setting a call up takes on average.", average.Seconds())
	m.gauge("cordboard_registrations", "Registered phones.", float64(s.registrar.Count()))
	c.agents(m)
	c.queues(m)
	c.journal(m)
	for _, t := range s.trunks.Status() {
		up := 0.0
		if t.State == trunk.StateUp {
			up = 1
		}
		m.gauge("cordboard_trunk_up", "1 while the trunk answers keep-alives.", up, "trunk", t.Name)
		m.gauge("cordboard_trunk_channels", "Channels of the trunk in use.", float64(t.Channels), "trunk", t.Name)
		m.gauge("cordboard_trunk_rtt_seconds", "Round trip of the last keep-alive.", t.RTT.Seconds(), "trunk", t.Name)
		if t.Register {
			registered := 0.0
			if t.Registered {
				registered = 1
			}
			m.gauge("cordboard_trunk_registered", "1 while registered at the carrier.", registered, "trunk", t.Name)
		}
	}
	if t := s.sockets.turn; t != nil {
		st := t.Stats()
		m.gauge("cordboard_turn_allocations", "Live TURN allocations.", float64(st.Allocations))
		m.counter("cordboard_turn_relayed_packets_total", "Packets relayed.", float64(st.ToPeerPackets), "to", "peer")
		m.counter("cordboard_turn_relayed_packets_total", "Packets relayed.", float64(st.ToClientPackets), "to", "client")
		m.counter("cordboard_turn_refused_total", "What TURN refused.", float64(st.PeerRefused), "why", "peer")
		m.counter("cordboard_turn_refused_total", "What TURN refused.", float64(st.RateLimited), "why", "rate")
		m.counter("cordboard_turn_refused_total", "What TURN refused.", float64(st.QuotaRefused), "why", "quota")
		m.counter("cordboard_turn_refused_total", "What TURN refused.", float64(st.Unauthorized), "why", "credentials")
	}
	if sp, err := diskSpace(s.c.Data); err == nil {
		m.gauge("cordboard_disk_free_bytes", "Free space where the data folder is.", float64(sp.free))
	}
	if leaf := s.leaf(); leaf != nil {
		m.gauge("cordboard_certificate_expires_seconds", "When the certificate expires, in Unix time.", float64(leaf.NotAfter.Unix()))
	}
	for _, name := range s.alarms.names() {
		m.gauge("cordboard_alarm", "1 while the alarm is active.", 1, "alarm", name)
	}
}

func (c collector) agents(m sink) {
	st := c.s.agents.Stats()
	m.gauge("cordboard_agents_signed_in", "Agents who are signed in.", float64(st.SignedIn))
	for state, n := range st.ByState {
		m.gauge("cordboard_agents", "Agents by state.", float64(n), "state", string(state))
	}
	m.counter("cordboard_repairs_total", "Broken invariants that were repaired.", float64(st.LeasesExpired), "what", "lease")
	m.counter("cordboard_facts_failed_total", "Facts that the journal refused.", float64(st.FactsFailed), "owner", "agent")
}

func (c collector) queues(m sink) {
	st := c.s.queues.Stats()
	m.gauge("cordboard_queue_entries", "Callers in queues, waiting, ringing or talking.", float64(st.Entries))
	m.gauge("cordboard_queue_waiting", "Callers who wait.", float64(st.Waiting))
	m.counter("cordboard_queue_offers_total", "Offers made to agents.", float64(st.Offers))
	m.counter("cordboard_queue_overloads_total", "Callers refused because of overload.", float64(st.Overloads))
	m.counter("cordboard_repairs_total", "Broken invariants that were repaired.", float64(st.Repairs), "what", "queue")
	m.counter("cordboard_facts_failed_total", "Facts that the journal refused.", float64(st.FactsFailed), "owner", "queue")
}

func (c collector) journal(m sink) {
	st := c.s.stream.Stats()
	m.counter("cordboard_facts_total", "Facts in the journal since the start.", float64(st.Appended))
	m.gauge("cordboard_facts_waiting", "Facts that the journal has not taken yet.", float64(st.Waiting))
	m.counter("cordboard_facts_late_total", "Facts acknowledged after the deadline.", float64(st.Late))
	m.counter("cordboard_facts_lost_total", "Facts that found no place.", float64(st.Lost))
	p := c.s.projector.Stats()
	m.gauge("cordboard_log_tables_behind", "Facts that the log tables do not show yet.", float64(p.Behind))
	m.counter("cordboard_log_tables_poisoned_total", "Facts put aside as unreadable.", float64(p.Poisoned))
}

// sink makes metrics.
type sink struct{ ch chan<- prometheus.Metric }

func (m sink) gauge(name, help string, v float64, labels ...string) {
	m.send(prometheus.GaugeValue, name, help, v, labels)
}

func (m sink) counter(name, help string, v float64, labels ...string) {
	m.send(prometheus.CounterValue, name, help, v, labels)
}

// send makes one metric; labels are name, value pairs.
func (m sink) send(t prometheus.ValueType, name, help string, v float64, labels []string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	m.ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), t, v, values...)
}
