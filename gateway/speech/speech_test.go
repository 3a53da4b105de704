package speech

import (
	"encoding/binary"
	"os/exec"
	"strings"
	"testing"
)

func TestSynthesizeSpeaksEachLanguage(t *testing.T) {
	if _, err := exec.LookPath("espeak-ng"); err != nil {
		t.Skip("espeak-ng is not installed")
	}
	for _, language := range []string{"en", "es", "pt", "it"} {
		t.Run(language, func(t *testing.T) {
			wav, err := Synthesize(t.Context(), Voice{Language: language}, "uno due tres, cordboard")
			if err != nil {
				t.Fatal(err)
			}
			loud := 0
			for i := 44; i+1 < len(wav); i += 2 {
				if s := int16(binary.LittleEndian.Uint16(wav[i:])); s > 3000 || s < -3000 {
					loud++
				}
			}
			if loud < 1000 {
				t.Errorf("%d loud samples of %d bytes: no speech", loud, len(wav))
			}
			if got := binary.LittleEndian.Uint32(wav[4:]); int(got) != len(wav)-8 {
				t.Errorf("riff length %d, file has %d", got, len(wav)-8)
			}
		})
	}
}

func TestSynthesizeRefusesWhatIsTooLong(t *testing.T) {
	if _, err := Synthesize(t.Context(), Voice{}, strings.Repeat("a", maxText+1)); err == nil {
		t.Fatal("no error")
	}
}

func TestVoiceNameLetsNoArgumentThrough(t *testing.T) {
	if got := voiceName("en --stdin;/etc"); got != "en--stdinetc" {
		t.Errorf("voice %q", got)
	}
}
