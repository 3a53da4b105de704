package media

import "time"

// SalvageRecording makes a recording playable that a killed process left open,
// and returns what is known of it. What was lost is not known.
func SalvageRecording(path string) (RecordingInfo, error) {
	if _, err := RepairWAV(path); err != nil {
		return RecordingInfo{}, err
	}
	info := RecordingInfo{Path: path}
	var err error
	if info.Bytes, info.SHA256, err = hashFile(path); err != nil {
		return RecordingInfo{}, err
	}
	// Two channels of one byte, 8,000 times a second.
	info.Duration = time.Duration(info.Bytes-wavLawHeader) * time.Second / (2 * 8000)
	return info, nil
}
