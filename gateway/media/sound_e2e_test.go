//go:build e2e

package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

// soundPeer finds a program that we did not write; without it the test is
// skipped here and fails in CI.
func soundPeer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

func runPeer(t *testing.T, in []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, stderr.String())
	}
	return out
}

func peerPCM(b []byte) []int16 {
	pcm := make([]int16, len(b)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return pcm
}

// recordTones makes a recording of 3 s: 1000 Hz by the customer, 400 Hz by the agent.
func recordTones(t *testing.T, law codec.Law) RecordingInfo {
	t.Helper()
	r := NewRecorder(RecorderOptions{})
	defer r.Close() //nolint:errcheck // stopped below
	rec, err := r.Record(filepath.Join(t.TempDir(), "guid.wav"), RecordOptions{Codec: law.String()})
	if err != nil {
		t.Fatal(err)
	}
	for i, set := range []func(Tapped){rec.Customer, rec.Agent} {
		leg := &tappedLeg{}
		set(leg)
		track := leg.track.Load()
		pcm := tonePCM(8000, []float64{1000, 400}[i], 3*time.Second)
		b := make([]byte, 160)
		for at := 0; at < len(pcm); at += 160 {
			law.Encode(b, pcm[at:at+160])
			track.Write(uint32(at), rec.start.Add(time.Duration(at)*time.Second/8000), law, b)
		}
	}
	rec.start = rec.start.Add(-3 * time.Second) // the three seconds are over
	info, err := rec.Stop()
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestSoxAndFFmpegReadOurRecordings(t *testing.T) {
	sox, ffmpeg := soundPeer(t, "sox"), soundPeer(t, "ffmpeg")
	for _, law := range []codec.Law{codec.ULaw, codec.ALaw} {
		path := recordTones(t, law).Path
		for side, want := range [2]float64{1000, 400} {
			other := 1400 - want
			bySox := peerPCM(runPeer(t, nil, sox, "-V1", path, "-t", "raw", "-e", "signed-integer", "-b", "16", "-", "remix", []string{"1", "2"}[side]))
			byFF := peerPCM(runPeer(t, nil, ffmpeg, "-loglevel", "error", "-i", path, "-af", "pan=mono|c0=c"+[]string{"0", "1"}[side], "-f", "s16le", "pipe:1"))
			for name, pcm := range map[string][]int16{"sox": bySox, "ffmpeg": byFF} {
				if len(pcm) < 24000 {
					t.Errorf("%s reads %d samples of a %v recording", name, len(pcm), law)
					continue
				}
				if a, b := amplitude(pcm[:24000], 8000, want), amplitude(pcm[:24000], 8000, other); a < 7500 || b > 100 {
					t.Errorf("%s, %v, side %d: %v Hz at %.0f, %v Hz at %.0f", name, law, side, want, a, other, b)
				}
			}
		}
	}
}

func TestDownloadsPlay(t *testing.T) {
	ffmpeg := soundPeer(t, "ffmpeg")
	soundPeer(t, "lame")
	info := recordTones(t, codec.ALaw)
	for _, f := range []RecordingFormat{FormatStored, FormatWAV, FormatMP3} {
		var b bytes.Buffer
		if err := CopyRecording(t.Context(), &b, info.Path, f); err != nil {
			t.Fatal(err)
		}
		if f == FormatMP3 && (b.Len() < 5000 || b.Len() > int(info.Bytes)) {
			t.Errorf("mp3 of %d bytes from %d", b.Len(), info.Bytes)
		}
		for side, want := range [2]float64{1000, 400} {
			pcm := peerPCM(runPeer(t, b.Bytes(), ffmpeg, "-loglevel", "error", "-i", "pipe:0", "-af", "pan=mono|c0=c"+[]string{"0", "1"}[side], "-ar", "8000", "-f", "s16le", "pipe:1"))
			if len(pcm) < 23000 {
				t.Fatalf("%q: %d samples", f, len(pcm))
			}
			if a, o := amplitude(pcm[4000:20000], 8000, want), amplitude(pcm[4000:20000], 8000, 1400-want); a < 6500 || o > 300 {
				t.Errorf("%q side %d: %v Hz at %.0f, the other at %.0f", f, side, want, a, o)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, f := range []RecordingFormat{FormatStored, FormatWAV, FormatMP3} {
		if err := CopyRecording(ctx, &bytes.Buffer{}, info.Path, f); !errors.Is(err, context.Canceled) {
			t.Errorf("%q for somebody who left: %v", f, err)
		}
	}
	if err := CopyRecording(t.Context(), &bytes.Buffer{}, info.Path, "ogg"); !errors.Is(err, ErrFormat) {
		t.Errorf("ogg: %v", err)
	}
}

// Prompts of every usual format, made by ffmpeg, sound right once imported.
func TestLibraryImportsEveryUsualFormat(t *testing.T) {
	ffmpeg, sox := soundPeer(t, "ffmpeg"), soundPeer(t, "sox")
	wav := wavBytes(t, wavFormat{wavPCM, 2, 44100, 16}, 0, false)
	formats := map[string][]string{
		"mp3":       {"-f", "mp3"},
		"ogg":       {"-c:a", "libvorbis", "-f", "ogg"},
		"opus":      {"-c:a", "libopus", "-f", "opus"},
		"flac":      {"-f", "flac"},
		"gsm":       {"-ar", "8000", "-ac", "1", "-c:a", "libgsm", "-f", "gsm"},
		"wav-gsm":   {"-ar", "8000", "-ac", "1", "-c:a", "libgsm_ms", "-f", "wav"},
		"wav-adpcm": {"-c:a", "adpcm_ms", "-f", "wav"},
		"wav-ulaw":  {"-ar", "8000", "-c:a", "pcm_mulaw", "-f", "wav"},
		"aiff":      {"-f", "aiff"},
		"webm":      {"-c:a", "libopus", "-f", "webm"},
	}
	l := newLibrary(t, LibraryOptions{})
	bySox := newLibrary(t, LibraryOptions{FFmpeg: "/nonexistent/ffmpeg"})
	for name, args := range formats {
		file := filepath.Join(t.TempDir(), "in")
		runPeer(t, wav, ffmpeg, append(append([]string{"-loglevel", "error", "-f", "wav", "-i", "pipe:0"}, args...), file)...)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Import(t.Context(), "p/"+name, bytes.NewReader(data)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		src, err := l.Source("p/" + name)
		if err != nil {
			t.Fatal(err)
		}
		pcm := decodeFrames(t, src, "PCMA", 8000)
		if a := amplitude(pcm[1000:7000], 8000, 1000); a < 5000 || len(pcm) < 7800 {
			t.Errorf("%s: %d samples, tone at %.0f", name, len(pcm), a)
		}
		switch name { // formats of Debian's sox without extra packages
		case "ogg", "flac", "gsm", "wav-adpcm", "aiff":
			if err := bySox.Import(t.Context(), name, bytes.NewReader(data)); err != nil {
				t.Errorf("%s by sox: %v", name, err)
			}
		}
	}
	_ = sox
}

// What somebody drops into the folder is found; what is no sound is reported
// by being absent, and harms nothing.
func TestLibraryScansItsFolder(t *testing.T) {
	ffmpeg := soundPeer(t, "ffmpeg")
	l := newLibrary(t, LibraryOptions{})
	wav := wavBytes(t, wavFormat{wavPCM, 1, 22050, 16}, 0, false)
	if err := os.MkdirAll(filepath.Join(l.o.Dir, "welcome"), 0o750); err != nil {
		t.Fatal(err)
	}
	runPeer(t, wav, ffmpeg, "-loglevel", "error", "-i", "pipe:0", filepath.Join(l.o.Dir, "welcome", "es.mp3"))
	raw := make([]byte, 8000)
	codec.ALaw.Encode(raw, tonePCM(8000, 1000, time.Second))
	for name, data := range map[string][]byte{"welcome/it.alaw": raw, "broken.mp3": []byte("no sound at all"), "-i.mp3": raw} {
		if err := os.WriteFile(filepath.Join(l.o.Dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"welcome/es", "welcome/it"} {
		src, err := l.Source(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a := amplitude(decodeFrames(t, src, "PCMU", 8000)[1000:7000], 8000, 1000); a < 6000 {
			t.Errorf("%s: tone at %.0f", name, a)
		}
	}
	if _, err := l.Source("broken"); !errors.Is(err, ErrNoSound) {
		t.Errorf("broken: %v", err)
	}
}

// A playlist or a file that names others makes the converter open nothing, and
// a converter that hangs is ended.
func TestConverterIsHarmless(t *testing.T) {
	soundPeer(t, "ffmpeg")
	l := newLibrary(t, LibraryOptions{})
	secret := filepath.Join(t.TempDir(), "secret.wav")
	if err := os.WriteFile(secret, wavBytes(t, wavFormat{wavPCM, 1, 8000, 16}, 0, false), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"playlist": "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10,\nfile://" + secret + "\n#EXT-X-ENDLIST\n",
		"concat":   "ffconcat version 1.0\nfile " + secret + "\n",
	} {
		if err := l.Import(t.Context(), name, bytes.NewReader([]byte(text))); !errors.Is(err, ErrConvert) {
			t.Errorf("%s: %v", name, err)
		}
	}
	hang := filepath.Join(t.TempDir(), "hang")
	if err := os.WriteFile(hang, []byte("#!/bin/sh\nexec sleep 100\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	slow := newLibrary(t, LibraryOptions{FFmpeg: hang, Timeout: 300 * time.Millisecond})
	began := time.Now()
	if err := slow.Import(t.Context(), "x", bytes.NewReader([]byte("ID3 and nothing"))); !errors.Is(err, ErrConvert) {
		t.Errorf("a hanging converter: %v", err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("ended after %v", d)
	}
}
