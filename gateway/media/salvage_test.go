package media

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cordboard/cordboard/gateway/media/codec"
)

func TestSalvageRecordingOfAKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cut.wav")
	head := lawHeader(codec.ALaw, 2, 8000, 0) // as written at the start
	speech := bytes.Repeat([]byte{0x55, 0xD5}, 3*8000)
	if err := os.WriteFile(path, append(head[:], speech...), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := SalvageRecording(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Duration != 3*time.Second || info.Bytes != int64(wavLawHeader+len(speech)) || len(info.SHA256) != 64 {
		t.Fatalf("salvaged %+v", info)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	pcm, rate, err := ReadWAV(f, 1<<20)
	if err != nil || rate != 8000 || len(pcm) != 3*8000 {
		t.Fatalf("%d samples at %d, %v", len(pcm), rate, err)
	}
}
