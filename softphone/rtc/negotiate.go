package rtc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pion/webrtc/v4"
)

// Offer makes an offer. hold says that we will not listen; restart looks for a new path (ICE restart, RFC
// 8445 section 9). It waits for candidates, no longer than a few seconds. [Session.Answered] takes the answer,
// [Session.Rollback] withdraws it.
func (s *Session) Offer(ctx context.Context, hold, restart bool) ([]byte, error) {
	s.neg.Lock()
	defer s.neg.Unlock()
	if restart {
		// Credentials of the servers may have changed since.
		if err := s.pc.SetConfiguration(s.e.configuration()); err != nil {
			return nil, fmt.Errorf("ice restart: %w", err)
		}
	}
	offer, err := s.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err != nil {
		return nil, fmt.Errorf("make offer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(s.pc)
	if err := s.pc.SetLocalDescription(offer); err != nil {
		return nil, fmt.Errorf("make offer: %w", err)
	}
	sdp, err := s.gather(ctx, gathered)
	if err != nil {
		return nil, errors.Join(err, s.rollback())
	}
	dir := direction(true, !hold)
	s.mu.Lock()
	s.offered = dir
	s.mu.Unlock()
	return withDirection(sdp, dir), nil
}

// Answered takes the far side's answer to Offer. It may be called twice for early media (183, then 200).
func (s *Session) Answered(answer []byte) error {
	s.neg.Lock()
	defer s.neg.Unlock()
	d, err := s.e.check(answer)
	if err != nil {
		return err
	}
	if s.pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer {
		return ErrState
	}
	if err := s.setRemote(webrtc.SDPTypeAnswer, answer, d); err != nil {
		return err
	}
	s.mu.Lock()
	offered := s.offered
	s.mu.Unlock()
	s.agreed(d, direction(offered.sends() && d.direction.receives(), offered.receives() && d.direction.sends()))
	return nil
}

// Rollback withdraws an offer that was refused; what was agreed before stays.
func (s *Session) Rollback() error {
	s.neg.Lock()
	defer s.neg.Unlock()
	return s.rollback()
}

// rollback: pion has none, so the offer is answered with what the far side said last. After an offer of an
// ICE restart there is no path until the next restart; its caller tries again.
func (s *Session) rollback() error {
	last := s.pc.CurrentRemoteDescription()
	if s.pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer || last == nil {
		return nil
	}
	err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: last.SDP})
	if err != nil {
		return fmt.Errorf("withdraw offer: %w", err)
	}
	return nil
}

// Check says whether an offer could be answered, before the user is asked.
func (e *Engine) Check(offer []byte) error {
	_, err := e.check(offer)
	return err
}

// Answer answers an offer of the far side, the first or a later one. hold says that we will not listen.
func (s *Session) Answer(ctx context.Context, offer []byte, hold bool) ([]byte, error) {
	s.neg.Lock()
	defer s.neg.Unlock()
	d, err := s.e.check(offer)
	if err != nil {
		return nil, err
	}
	if err := s.rollback(); err != nil {
		return nil, err
	}
	if err := s.setRemote(webrtc.SDPTypeOffer, offer, d); err != nil {
		return nil, err
	}
	answer, err := s.pc.CreateAnswer(nil)
	if err != nil {
		return nil, fmt.Errorf("make answer: %w", err)
	}
	gathered := webrtc.GatheringCompletePromise(s.pc)
	if err := s.pc.SetLocalDescription(answer); err != nil {
		return nil, fmt.Errorf("make answer: %w", err)
	}
	sdp, err := s.gather(ctx, gathered)
	if err != nil {
		return nil, err
	}
	dir := direction(d.direction.receives(), d.direction.sends() && !hold)
	s.agreed(d, dir)
	return withDirection(sdp, dir), nil
}

func (e *Engine) check(sdp []byte) (description, error) {
	d, err := readDescription(sdp)
	if err != nil {
		return d, err
	}
	if !d.webrtc {
		return d, fmt.Errorf("neither ICE nor DTLS: %w", ErrDescription)
	}
	if _, _, ok := d.choose(e.codecs); !ok {
		return d, ErrNoCommonCodec
	}
	return d, nil
}

func (s *Session) setRemote(t webrtc.SDPType, sdp []byte, d description) error {
	if !d.mid {
		sdp = withMid(sdp)
	}
	err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: t, SDP: string(withDirection(sdp, SendRecv))})
	if err != nil {
		return fmt.Errorf("far side's description: %w", errors.Join(ErrDescription, err))
	}
	return nil
}

// agreed puts into effect what both sides said; ours is our direction.
func (s *Session) agreed(d description, ours Direction) {
	audio, event, _ := d.choose(s.e.codecs)
	s.out.use(audio, event)
	// The far side may use the numbers that we gave as well as its own.
	formats := d.formats
	if local := s.pc.LocalDescription(); local != nil {
		if l, err := readDescription([]byte(local.SDP)); err == nil {
			formats = append(append([]format{}, l.formats...), d.formats...)
		}
	}
	s.in.use(formats)
	s.mu.Lock()
	s.sends = ours.sends()
	s.farHold = !d.direction.receives()
	s.mu.Unlock()
	s.hurry()
}

// gather waits until the candidates are there, and returns the description with them.
func (s *Session) gather(ctx context.Context, done <-chan struct{}) ([]byte, error) {
	limit := gatherLimit
	if s.e.relayOnly {
		limit = relayGatherLimit
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-s.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, fmt.Errorf("gather candidates: %w", context.Cause(ctx))
	}
	local := s.pc.LocalDescription()
	if local == nil {
		return nil, ErrClosed
	}
	if s.e.relayOnly && !strings.Contains(local.SDP, " typ relay") {
		return nil, ErrNoRelay
	}
	return []byte(local.SDP), nil
}

// hurry makes ICE nominate a path as soon as one works. pion looks at its pairs only each 200 ms, or when
// a candidate comes; so some come that cannot be paired with anything (TCP, which is off) and cause no packet.
func (s *Session) hurry() {
	s.enter(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for i, wait := range []int{15, 15, 20, 30, 40, 60} {
			timer.Reset(time.Duration(wait) * time.Millisecond)
			select {
			case <-timer.C:
			case <-s.done:
				return
			}
			if s.State() == StateConnected {
				return
			}
			mid := "0"
			c := webrtc.ICECandidateInit{
				Candidate: "candidate:1 1 tcp 1 127.0.0.1 " + strconv.Itoa(i+1) + " typ host tcptype passive",
				SDPMid:    &mid,
			}
			// Only a hint: without it the call connects 200 ms later.
			_ = s.pc.AddICECandidate(c)
		}
	})
}
