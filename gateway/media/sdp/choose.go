package sdp

import (
	"slices"
	"strings"
)

// Choose is the part of an offered media that we take: the formats common with
// ours, in the offerer's order and with the offerer's payload types (RFC 3264
// section 6.1). telephone-event and comfort noise stay only beside a codec of
// the same clock. Params are the offerer's. Without a codec for speech the
// error is ErrNoCommonCodec.
func Choose(offer *Media, ours []Format) ([]Format, error) {
	var chosen []Format
	speech := false
	for _, f := range offer.Formats {
		if !contains(ours, f) || hasType(chosen, f.PayloadType) {
			continue
		}
		speech = speech || !auxiliary(f)
		chosen = append(chosen, f)
	}
	if !speech {
		return nil, ErrNoCommonCodec
	}
	kept := chosen[:0]
	for _, f := range chosen {
		if !auxiliary(f) || hasClock(chosen, f.ClockRate) {
			kept = append(kept, f)
		}
	}
	return kept, nil
}

// Prefer is Choose in our order of preference instead of the offerer's.
func Prefer(offer *Media, ours []Format) ([]Format, error) {
	common, err := Choose(offer, ours)
	if err != nil {
		return nil, err
	}
	var sorted []Format
	for _, o := range ours {
		for _, f := range common {
			if f.Is(o) && !hasType(sorted, f.PayloadType) {
				sorted = append(sorted, f)
			}
		}
	}
	return sorted, nil
}

// Speech is the first format that carries speech.
func Speech(formats []Format) (Format, bool) {
	for _, f := range formats {
		if !auxiliary(f) {
			return f, true
		}
	}
	return Format{}, false
}

// Events is the telephone-event format with the given clock.
func Events(formats []Format, clock int) (Format, bool) {
	for _, f := range formats {
		if strings.EqualFold(f.Name, "telephone-event") && f.ClockRate == clock {
			return f, true
		}
	}
	return Format{}, false
}

func auxiliary(f Format) bool {
	switch strings.ToLower(f.Name) {
	case "telephone-event", "cn", "red", "ulpfec", "":
		return true
	}
	return false
}

func contains(list []Format, f Format) bool {
	return slices.ContainsFunc(list, f.Is)
}

func hasType(list []Format, pt uint8) bool {
	return slices.ContainsFunc(list, func(f Format) bool { return f.PayloadType == pt })
}

func hasClock(list []Format, clock int) bool {
	return slices.ContainsFunc(list, func(f Format) bool { return !auxiliary(f) && f.ClockRate == clock })
}
