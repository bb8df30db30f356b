// Package multicall runs one of several upstream commands, picked by the name the program was started under.
package multicall

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"

	// Side effects that each upstream main.go has: the JSON log format, and client-go's and the version's metrics.
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

// Run builds and runs the command whose name is the base name of argv[0], and never returns.
func Run(commands map[string]func() *cobra.Command) {
	name := filepath.Base(os.Args[0])
	build, known := commands[name]
	if !known {
		names := make([]string, 0, len(commands))
		for command := range commands {
			names = append(names, command)
		}
		sort.Strings(names)
		fmt.Fprintf(os.Stderr, "%s: not a command of this program; start it under one of the names %s\n", name, strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Exit(cli.Run(build()))
}
