package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/cordboard/cordboard/gateway/api"
)

// ErrFound says that something is wrong and was printed; main ends with exit
// code 1 and prints nothing more.
var ErrFound = errors.New("the doctor found something")

// Flags name the gateway; *apply.Flags.
type Flags interface {
	Add(cmd *cobra.Command)
}

// Command makes `gateway doctor`. dial prepares a client of the gateway that
// the flags name.
func Command(f Flags, dial func() (Gateway, error)) *cobra.Command {
	var asJSON, noTrunks bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Try every leg of a running gateway and say what is wrong and how to mend it",
		Long: `Tries every leg of a running gateway and says what is wrong and how to mend it.

It looks at the database, the journal, the disk, the certificate, the clock, the
trunks and every listener; registers a phone over secure WebSocket; calls the
echo with direct media and through TURN over UDP, TCP and TLS, where a tone must
come back; and calls the testNumber of each trunk that has one (a real call, in
the records as one of "doctor"; --no-trunk-calls leaves it out).

One line for each check: ok, warn or FAIL. Exit code 1 when one has failed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []api.Finding{}
			failed := false
			show := Print(cmd.OutOrStdout())
			report := func(fi api.Finding) {
				failed = failed || fi.Status == api.FindingFail
				all = append(all, fi)
				if !asJSON {
					show(fi)
				}
			}
			err := examine(cmd, dial, report, noTrunks)
			if ctxErr := cmd.Context().Err(); ctxErr != nil {
				return fmt.Errorf("interrupted: %w", ctxErr)
			}
			if err != nil {
				report(api.Finding{
					Check: "gateway", Status: api.FindingFail, Detail: err.Error(),
					Cure: "start it (gateway serve), or name it by --config or by --server, --token-file and --ca",
				})
			}
			if asJSON {
				if err := writeJSON(cmd.OutOrStdout(), all); err != nil {
					return err
				}
			}
			if failed {
				return ErrFound
			}
			return nil
		},
	}
	f.Add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list of {check, status, detail, cure}")
	cmd.Flags().BoolVar(&noTrunks, "no-trunk-calls", false, "do not call the test numbers of trunks")
	return cmd
}

func examine(cmd *cobra.Command, dial func() (Gateway, error), report func(api.Finding), noTrunks bool) error {
	g, err := dial()
	if err != nil {
		return err
	}
	return Run(cmd.Context(), Options{Gateway: g, Log: slog.New(slog.DiscardHandler), Report: report, NoTrunkCalls: noTrunks})
}

func writeJSON(w io.Writer, all []api.Finding) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(all); err != nil {
		return fmt.Errorf("print findings: %w", err)
	}
	return nil
}
