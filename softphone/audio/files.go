package audio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// Files is a device of WAV files: Play is what its microphone hears, Record is what its loudspeaker said.
// An empty name is silence, or nothing kept. The zero value but for the names is ready; it must not be copied.
type Files struct {
	Play string
	// Loop starts Play again at its end; else silence follows.
	Loop bool
	// Record is written at the rate of the call. The second call of a phone writes NAME-2.wav, and so on.
	Record string

	mu     sync.Mutex
	loaded map[int]Sound // Play by rate: read and resampled once, shared by all calls
	opened int
}

// Load reads Play, so that a bad file is known before the first call.
func (d *Files) Load() error {
	_, err := d.sound(RateFull)
	return err
}

// Open implements Device.
func (d *Files) Open(rate int) (Stream, error) {
	s := &fileStream{loop: d.Loop}
	if d.Play != "" {
		snd, err := d.sound(rate)
		if err != nil {
			return nil, err
		}
		s.play = snd.Samples
	}
	if d.Record != "" {
		w, err := CreateWAV(d.recordName(), rate)
		if err != nil {
			return nil, err
		}
		s.record = w
	}
	return s, nil
}

func (d *Files) recordName() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened++
	if d.opened == 1 {
		return d.Record
	}
	ext := filepath.Ext(d.Record)
	return strings.TrimSuffix(d.Record, ext) + "-" + strconv.Itoa(d.opened) + ext
}

func (d *Files) sound(rate int) (Sound, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.loaded[rate]; ok {
		return s, nil
	}
	if d.Play == "" {
		return Sound{Rate: rate}, nil
	}
	f, err := os.Open(d.Play)
	if err != nil {
		return Sound{}, fmt.Errorf("sound to play: %w", err)
	}
	s, err := ReadWAV(f)
	err = errors.Join(err, f.Close())
	if err == nil {
		s, err = s.At(rate)
	}
	if err != nil {
		return Sound{}, fmt.Errorf("sound to play %s: %w", d.Play, err)
	}
	if d.loaded == nil {
		d.loaded = make(map[int]Sound)
	}
	d.loaded[rate] = s
	return s, nil
}

type fileStream struct {
	play   []int16
	at     int
	loop   bool
	record *Writer
}

func (s *fileStream) ReadFrame(pcm []int16) error {
	for len(pcm) > 0 {
		if s.at >= len(s.play) {
			if !s.loop || len(s.play) == 0 {
				clear(pcm)
				return nil
			}
			s.at = 0
		}
		n := copy(pcm, s.play[s.at:])
		s.at += n
		pcm = pcm[n:]
	}
	return nil
}

func (s *fileStream) WriteFrame(pcm []int16) error {
	if s.record == nil {
		return nil
	}
	return s.record.Write(pcm)
}

func (s *fileStream) Close() error {
	if s.record == nil {
		return nil
	}
	return s.record.Close()
}
