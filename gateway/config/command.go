package config

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// ErrInvalid says that a command has printed what is wrong with the
// configuration; main ends with exit code 1 and prints nothing more.
var ErrInvalid = errors.New("the configuration is not valid")

// CheckCommand makes `gateway check --config FILE`: it names every wrong key
// with its line and reason.
func CheckCommand() *cobra.Command {
	var file string
	var show bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Validate the configuration and name every wrong key",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := Load(file, os.Environ())
			if wrong, ok := errors.AsType[*Error](err); ok {
				_, werr := fmt.Fprintln(cmd.ErrOrStderr(), wrong)
				return errors.Join(ErrInvalid, werr)
			}
			if err != nil {
				return err
			}
			if !show {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid")
				return err
			}
			out, err := c.YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (none: the defaults)")
	cmd.Flags().BoolVar(&show, "show", false, "print the values in force, passwords in URLs included")
	return cmd
}
