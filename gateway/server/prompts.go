package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cordboard/cordboard/gateway/media"
	"github.com/cordboard/cordboard/gateway/speech"
)

// prompts are what the gateway itself has to say, by name and language. An
// administrator's own recording under the same name takes their place.
func prompts() map[string]map[string]string {
	return map[string]map[string]string{
		"agent-away": {
			"en": "One moment, please. The connection to our colleague was interrupted.",
			"es": "Un momento, por favor. Se interrumpió la conexión con nuestro agente.",
			"pt": "Um momento, por favor. A conexão com o nosso atendente foi interrompida.",
			"it": "Un momento, per favore. Il collegamento con il nostro operatore si è interrotto.",
		},
		"agent-lost": {
			"en": "We are sorry, the connection to our colleague was lost. Please call again.",
			"es": "Lo sentimos, se perdió la conexión con nuestro agente. Por favor, llame nuevamente.",
			"pt": "Desculpe, a conexão com o nosso atendente foi perdida. Por favor, ligue novamente.",
			"it": "Ci dispiace, il collegamento con il nostro operatore è caduto. La preghiamo di richiamare.",
		},
		"out-of-hours": {
			"en": "Thank you for calling. We are closed at the moment. Please call again during our hours.",
			"es": "Gracias por llamar. En este momento estamos fuera de horario. Por favor, llame más tarde.",
			"pt": "Obrigado por ligar. No momento estamos fora do horário de atendimento. Por favor, ligue mais tarde.",
			"it": "Grazie per la chiamata. In questo momento i nostri uffici sono chiusi. La preghiamo di richiamare più tardi.",
		},
		"no-agent": {
			"en": "We are sorry, nobody can take your call at the moment. Please call again later.",
			"es": "Lo sentimos, en este momento nadie puede atender su llamada. Por favor, llame más tarde.",
			"pt": "Desculpe, no momento ninguém pode atender a sua ligação. Por favor, ligue mais tarde.",
			"it": "Ci dispiace, al momento nessuno può rispondere. La preghiamo di richiamare più tardi.",
		},
		"closing": {
			"en": "We are sorry, this call has to end now. Please call again in a few minutes.",
			"es": "Lo sentimos, esta llamada debe terminar ahora. Por favor, llame de nuevo en unos minutos.",
			"pt": "Desculpe, esta ligação precisa terminar agora. Por favor, ligue novamente em alguns minutos.",
			"it": "Ci dispiace, questa chiamata deve terminare ora. La preghiamo di richiamare tra qualche minuto.",
		},
	}
}

// prepareSounds makes ready what callers may hear, beside the start: it codes
// the sounds of nearly every call, takes in files that lie in the sounds folder,
// and speaks what is missing.
func (s *Server) prepareSounds(ctx context.Context) {
	if err := s.sounds.Warm(ctx, []string{"PCMA", "PCMU", "opus"}, []string{"music/default", "tone/ringback"}); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "sounds are not ready", "err", err)
	}
	if err := s.sounds.Scan(ctx); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "read the sounds folder", "err", err)
	}
	s.speakPrompts(ctx)
}

// speakPrompts makes the prompts that the sounds folder does not have yet.
// Without a speech engine callers hear none, and the log says so once.
func (s *Server) speakPrompts(ctx context.Context) {
	for name, texts := range prompts() {
		for language, text := range texts {
			if ctx.Err() != nil {
				return
			}
			full := name + "/" + language
			if _, err := s.sounds.Source(full); !errors.Is(err, media.ErrNoSound) {
				continue
			}
			err := s.speakPrompt(ctx, full, language, text)
			if errors.Is(err, speech.ErrMissing) {
				s.log.WarnContext(ctx, "no spoken prompts", "err", err)
				return
			}
			if err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "prompt not made", "sound", full, "err", err)
			}
		}
	}
}

func (s *Server) speakPrompt(ctx context.Context, name, language, text string) error {
	wav, err := speech.Synthesize(ctx, speech.Voice{Language: language, Speed: 160}, text)
	if err != nil {
		return fmt.Errorf("speak: %w", err)
	}
	return s.sounds.Import(ctx, name, bytes.NewReader(wav))
}
