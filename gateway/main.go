// Command gateway is the Cordboard gateway: it bridges WebRTC phones to SIP
// trunks, runs the queues, records the calls and keeps the facts.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cordboard/cordboard/gateway/apply"
	"github.com/cordboard/cordboard/gateway/config"
	"github.com/cordboard/cordboard/gateway/doctor"
	"github.com/cordboard/cordboard/gateway/server"
)

// version is set by the linker.
var version = ""

// errUsage marks errors that come from a wrong command line: exit code 2.
var errUsage = errors.New("wrong usage")

// errHelped says that the usage was printed in place of doing anything.
var errHelped = errors.New("no command")

func main() { os.Exit(run()) }

func run() int {
	root := &cobra.Command{
		Use:           "gateway",
		Short:         "The Cordboard gateway",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(os.Stderr)
			return errors.Join(errHelped, cmd.Help())
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	root.AddCommand(serveCommand(), demoCommand(), apply.Command(), apply.ExportCommand(), backupCommand(), restoreCommand(),
		config.CheckCommand(), doctorCommand(), versionCommand())
	return exitCode(root.ExecuteContext(context.Background()), os.Stderr)
}

// exitCode says on w what went wrong: 0 fine, 1 failed, 2 wrong usage.
func exitCode(err error, w io.Writer) int {
	say := func(format string, a ...any) { _, _ = fmt.Fprintf(w, format+"\n", a...) } // nothing is left to tell it to if this fails
	wrong, invalid := errors.AsType[*config.Error](err)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errHelped):
		return 2
	case errors.Is(err, config.ErrInvalid), errors.Is(err, doctor.ErrFound):
		return 1 // said already
	case invalid:
		say("%v", wrong) // FILE:LINE: KEY: REASON, a line each
		return 1
	case errors.Is(err, errUsage), strings.HasPrefix(err.Error(), "unknown command"), strings.HasPrefix(err.Error(), "required flag"):
		say("gateway: %v\nRun 'gateway --help' for usage.", err)
		return 2
	default:
		say("gateway: %v", err)
		return 1
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "cordboard gateway", versionText())
			return err
		},
	}
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "dev"
}

func serveCommand() *cobra.Command {
	var file, logFormat string
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the gateway", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(file, os.Environ())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), c, logFormat, nil)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (none: the defaults, data in ./data)")
	cmd.Flags().StringVar(&logFormat, "log", "", "log format: json or text (default json)")
	return cmd
}

func demoCommand() *cobra.Command {
	var data, logFormat string
	cmd := &cobra.Command{
		Use: "demo", Short: "Run the gateway on loopback with demo state and simulated customers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			base := config.Demo()
			if data != "" {
				base.Data = data
			}
			c, err := config.LoadOver(base, "", os.Environ())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), c, logFormat, cmd)
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "folder of everything the demo keeps (default ./data)")
	cmd.Flags().StringVar(&logFormat, "log", "", "log format: json or text (default json)")
	return cmd
}

// serve runs until SIGTERM or SIGINT has drained it; a second signal ends now.
func serve(ctx context.Context, c *config.Config, logFormat string, demo *cobra.Command) error {
	if logFormat != "" {
		c.Log.Format = logFormat
	}
	log, err := logger(c.Log)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)
	o := server.Options{Config: c, Log: log, Version: versionText(), Out: os.Stdout}
	if demo != nil {
		o.Demo = demo.OutOrStdout()
	}
	return server.Run(ctx, o, signals)
}

func logger(c config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch c.Format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, opts)), nil
	case "json", "":
		return slog.New(slog.NewJSONHandler(os.Stderr, opts)), nil
	default:
		return nil, fmt.Errorf("%w: --log %q is neither json nor text", errUsage, c.Format)
	}
}
