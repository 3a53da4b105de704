package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cordboard/cordboard/gateway/api"
	"github.com/cordboard/cordboard/gateway/config"
)

// Flags name a running gateway: by its configuration, or by its address and a
// token.
type Flags struct {
	ConfigFile, Server, TokenFile, CA string
}

// Add declares the flags.
func (f *Flags) Add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.ConfigFile, "config", "", "the gateway's configuration file (none: the defaults)")
	cmd.Flags().StringVar(&f.Server, "server", "", "address of a gateway elsewhere")
	cmd.Flags().StringVar(&f.TokenFile, "token-file", "", "file with an API token of the scope admin")
	cmd.Flags().StringVar(&f.CA, "ca", "", "PEM file of the authority of the gateway's certificate")
}

// Dial prepares a client of the gateway that the flags name.
func (f *Flags) Dial() (*Client, error) {
	t := Target{Server: f.Server, TokenFile: f.TokenFile, CA: f.CA}
	if f.Server == "" {
		c, err := config.Load(f.ConfigFile, os.Environ())
		if err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
		t.Config = c
	}
	return Dial(t)
}

// Command makes `gateway apply --config FILE -f STATE`: it makes users, trunks,
// campaigns and dispositions of a running gateway as the file says, and prints
// what that changes.
func Command() *cobra.Command {
	var f Flags
	var file string
	var dryRun, prune bool
	cmd := &cobra.Command{
		Use:   "apply -f STATE",
		Short: "Make users, trunks and campaigns of a running gateway as a file says",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := readState(file, cmd.InOrStdin())
			if err != nil {
				return err
			}
			c, err := f.Dial()
			if err != nil {
				return err
			}
			return send(cmd.Context(), cmd.OutOrStdout(), c, state, dryRun, prune)
		},
	}
	f.Add(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "state file, - for standard input")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only print what would change")
	cmd.Flags().BoolVar(&prune, "prune", false, "delete what the file does not name")
	if err := cmd.MarkFlagRequired("file"); err != nil {
		panic(err) // the flag was added above
	}
	return cmd
}

func readState(file string, stdin io.Reader) (*File, error) {
	in, name := stdin, "standard input"
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, fmt.Errorf("read state: %w", err)
		}
		defer func() { _ = f.Close() }()
		in, name = f, file
	}
	b, err := io.ReadAll(io.LimitReader(in, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return Parse(name, b)
}

// send applies a parsed file and blames problems on its lines.
func send(ctx context.Context, w io.Writer, c *Client, f *File, dryRun, prune bool) error {
	d, err := c.Apply(ctx, f.State, dryRun, prune)
	var p *api.Problem
	if errors.As(err, &p) && len(p.Errors) > 0 {
		wrong := &FileError{}
		for _, e := range p.Errors {
			key := strings.TrimPrefix(e.Location, "body.")
			wrong.Problems = append(wrong.Problems, Problem{File: f.name, Line: f.Line(key), Key: key, Reason: e.Message})
		}
		return wrong
	}
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return WriteDiff(w, d)
}

// ExportCommand makes `gateway export --config FILE`: it prints the state of a
// running gateway in the form of apply, without secrets.
func ExportCommand() *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the state of a running gateway in the form of apply, without secrets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.Dial()
			if err != nil {
				return err
			}
			s, err := c.Export(cmd.Context())
			if err != nil {
				return fmt.Errorf("export: %w", err)
			}
			out, err := Format(s)
			if err != nil {
				return err
			}
			if _, err := cmd.OutOrStdout().Write(out); err != nil {
				return fmt.Errorf("print state: %w", err)
			}
			return nil
		},
	}
	f.Add(cmd)
	return cmd
}
