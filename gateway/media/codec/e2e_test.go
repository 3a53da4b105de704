//go:build e2e

package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/thesyncim/gopus/container/ogg"
)

// peer finds a program that we did not write; without it the test is skipped
// here and fails in CI.
func peer(t *testing.T, name string) string {
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

func run(t *testing.T, in []byte, name string, args ...string) []byte {
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

func pcmOf(b []byte) []int16 {
	pcm := make([]int16, len(b)/2)
	for i := range pcm {
		pcm[i] = int16(binary.LittleEndian.Uint16(b[2*i:]))
	}
	return pcm
}

func bytesOf(pcm []int16) []byte {
	var b []byte
	for _, s := range pcm {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b
}

// Both laws agree with ffmpeg's tables: each byte decodes to the same value.
func TestG711AgreesWithFFmpeg(t *testing.T) {
	ffmpeg := peer(t, "ffmpeg")
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for law, format := range map[Law]string{ULaw: "mulaw", ALaw: "alaw"} {
		theirs := pcmOf(run(t, all, ffmpeg, "-loglevel", "error", "-f", format, "-ar", "8000", "-ac", "1", "-i", "pipe:0", "-f", "s16le", "pipe:1"))
		ours := make([]int16, 256)
		law.Decode(ours, all)
		for i := range ours {
			if ours[i] != theirs[i] {
				t.Errorf("%v %#x: %d, ffmpeg %d", law, i, ours[i], theirs[i])
			}
		}
	}
}

// libopus decodes what we code, at each API rate.
func TestLibopusDecodesOurOpus(t *testing.T) {
	ffmpeg := peer(t, "ffmpeg")
	for _, rate := range []int{8000, 16000, 48000} {
		file, err := os.Create(filepath.Join(t.TempDir(), "ours.opus"))
		if err != nil {
			t.Fatal(err)
		}
		w, err := ogg.NewWriter(file, uint32(rate), 1)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := NewOpusEncoder(OpusOptions{Rate: rate, FEC: true, LossPercent: 10})
		if err != nil {
			t.Fatal(err)
		}
		in := sine(rate, 1000, rate*2, 8000)
		var buf [MaxOpusPacket]byte
		for at := 0; at < len(in); at += rate / 50 {
			n, err := enc.Encode(buf[:], in[at:at+rate/50])
			if err != nil {
				t.Fatal(err)
			}
			if err := w.WritePacket(buf[:n], 960); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Close(), file.Close()); err != nil {
			t.Fatal(err)
		}
		out := pcmOf(run(t, nil, ffmpeg, "-loglevel", "error", "-c:a", "libopus", "-i", file.Name(), "-ac", "1", "-ar", "48000", "-f", "s16le", "pipe:1"))
		if len(out) < 48000*19/10 {
			t.Fatalf("%d Hz: %d samples of 96000", rate, len(out))
		}
		if a := tonePower(out[48000:90000], 48000, 1000); a < 6500 || a > 9500 {
			t.Errorf("%d Hz: libopus hears our tone of 8000 at %.0f", rate, a)
		}
	}
}

// theirPackets is speech coded by libopus with in-band FEC.
func theirPackets(t *testing.T, ffmpeg string, voice []int16) [][]byte {
	t.Helper()
	out := run(t, bytesOf(voice), ffmpeg, "-loglevel", "error", "-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "pipe:0",
		"-c:a", "libopus", "-application", "voip", "-b:a", "24k", "-frame_duration", "20", "-fec", "1", "-packet_loss", "20", "-f", "opus", "pipe:1")
	r, err := ogg.NewReader(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	var packets [][]byte
	for {
		p, _, err := r.ReadPacket()
		if errors.Is(err, io.EOF) {
			return packets
		}
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, p)
	}
}

// We decode what libopus codes, at each API rate.
func TestWeDecodeLibopus(t *testing.T) {
	ffmpeg := peer(t, "ffmpeg")
	packets := theirPackets(t, ffmpeg, sine(16000, 1000, 16000*2, 8000))
	for _, rate := range []int{8000, 16000, 48000} {
		d, err := NewOpusDecoder(rate)
		if err != nil {
			t.Fatal(err)
		}
		var out []int16
		pcm := make([]int16, MaxFrameSamples)
		for _, p := range packets {
			n, err := d.Decode(pcm, p)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, pcm[:n]...)
		}
		if a := tonePower(out[rate:rate*19/10], rate, 1000); a < 6500 || a > 9500 {
			t.Errorf("%d Hz: libopus's tone of 8000 is heard at %.0f", rate, a)
		}
	}
}

// We recover a lost packet from the FEC that libopus put into the next one.
func TestWeRecoverFromLibopusFEC(t *testing.T) {
	ffmpeg := peer(t, "ffmpeg")
	packets := theirPackets(t, ffmpeg, speechlike(16000, 16000*3))
	for _, rate := range []int{8000, 48000} {
		var errFEC, errPLC float64
		used := 0
		for lost := 20; lost < 140; lost += 7 {
			whole := decodeWith(t, rate, packets, lost, func(*OpusDecoder, []int16, []byte) {})
			fec := decodeWith(t, rate, packets, lost, func(d *OpusDecoder, pcm []int16, next []byte) {
				ok, err := d.Recover(pcm, next)
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					used++
				}
			})
			plc := decodeWith(t, rate, packets, lost, func(d *OpusDecoder, pcm []int16, _ []byte) {
				if err := d.Conceal(pcm); err != nil {
					t.Fatal(err)
				}
			})
			errFEC += distance(whole, fec)
			errPLC += distance(whole, plc)
		}
		t.Logf("%d Hz: FEC in %d of 18, off by %.0f; concealment off by %.0f", rate, used, errFEC/18, errPLC/18)
		if used < 9 || errFEC > errPLC*0.8 {
			t.Errorf("%d Hz: FEC in %d of 18, off by %.0f; concealment off by %.0f", rate, used, errFEC/18, errPLC/18)
		}
	}
}
