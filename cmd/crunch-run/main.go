// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Command crunch-run stands where dispatchers start Arvados's own crunch-run.
// Containers for builtin commands it runs itself; every other container it
// hands over, by exec, to the site's stock crunch-run. It never starts a
// container of its own.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	_ "git.arvados.org/arvados.git/lib/builtin/dockerbuild"
	_ "git.arvados.org/arvados.git/lib/builtin/dockerpull"
	"git.arvados.org/arvados.git/lib/builtinrun"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/version"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

const (
	// decisionTime is how long the API server may take to say what a container
	// is. Stock crunch-run could not begin without it either.
	decisionTime = time.Minute
	// labelTime is how long reading the config of an image may take.
	labelTime = time.Minute
	// apiTime is how long a request to the API server is tried, as by stock
	// crunch-run: what was made is not to be lost with its final state.
	apiTime = 10 * time.Minute
	// memoryBase is what the process needs beside blocks, in bytes.
	memoryBase = 96 << 20
)

func main() {
	// Dispatchers ask whether a process lives by SIGUSR2, and SIGUSR1 is for
	// its logs to be saved; by default either kills. "Ignored" survives the
	// hand-over by exec.
	signal.Ignore(syscall.SIGUSR1, syscall.SIGUSR2)
	os.Exit(run(os.Args[0], os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(prog string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cmd, err := parseFlags(prog, args, stderr)
	if err != nil {
		return 2 // parseFlags has said why
	}
	locks := lockDir("/var/lock")
	switch {
	case cmd.help:
		printStock(cmd.site, stderr) // below what parseFlags has said
		return 0
	case cmd.version:
		fmt.Fprintf(stdout, "%s %s (%s) %s %q\n", prog, version.Text(), runtime.Version(), builtinWords, builtin.Names())
		printStock(cmd.site, stdout)
		return 0
	case cmd.bundle != "":
		err = makeBundle(cmd.bundle, cmd.output, stdout)
	case cmd.check:
		err = nodeCheck(cmd.site, stdout)
	case strings.Contains(cmd.uuid, "/"):
		err = fmt.Errorf("%q is no container UUID", cmd.uuid) // nor the name of a lock file
	case cmd.detach:
		err = locks.detach(cmd, stdin, stdout)
	case cmd.kill >= 0:
		err = locks.kill(cmd.uuid, syscall.Signal(cmd.kill), stderr)
	case cmd.list:
		if err := locks.savePrices(cmd, stdin); err != nil {
			fmt.Fprintln(stderr, err) // what runs is listed nevertheless
		}
		err = locks.list(stdout, stderr)
	case len(cmd.uuid) != 27:
		err = fmt.Errorf("usage: %s [options] UUID", prog)
	default:
		err = runContainer(cmd, locks, stdin, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// builtinWords tell this program's -version from a stock one's.
const builtinWords = "with builtin commands"

// printStock says what stands behind this program.
func printStock(siteFile string, w io.Writer) {
	ctx, cancel := context.WithTimeout(context.Background(), versionTime)
	defer cancel()
	say := func(_, format string, args ...interface{}) { fmt.Fprintf(w, "all else: "+format+"\n", args...) }
	site, err := builtin.LoadSite(siteFile)
	if err == nil {
		err = checkStock(ctx, site, say)
	}
	if err != nil {
		say("", "%v", err)
	}
}

// configData is what dispatchers send on stdin. Cluster and the other fields
// are for stock crunch-run only.
type configData struct {
	Env map[string]string
}

// runContainer decides who runs the container, and does it.
func runContainer(cmd command, locks lockDir, stdin io.Reader, stderr io.Writer) error {
	site, siteErr := builtin.LoadSite(cmd.site)
	if siteErr != nil {
		// Of what the file says, only builtin_images counts for the decision.
		fmt.Fprintf(stderr, "ordinary containers only, until this is mended: %v\n", siteErr)
	}
	// Before anything can fail: whoever writes it waits until it is read, and
	// would take an early end for trouble of its own.
	var input []byte
	if cmd.stdinConfig {
		var err error
		if input, err = io.ReadAll(stdin); err != nil {
			return fmt.Errorf("read stdin: %w", err)
		}
	}
	stock, err := findStock(site)
	if err != nil {
		return err
	}
	stock.prefetch()
	var config configData
	if cmd.stdinConfig && json.NewDecoder(bytes.NewReader(input)).Decode(&config) != nil {
		return stock.exec(cmd.stockArgs, input) // stock says what is wrong
	}
	// As stock crunch-run does: certificates and Keep services are found by
	// the environment, and what came on stdin is the newest.
	for key, value := range config.Env {
		os.Setenv(key, value)
	}
	if cmd.caCerts != "" {
		os.Setenv("SSL_CERT_FILE", cmd.caCerts)
	}
	client := arvados.NewClientFromEnv()
	client.Timeout = apiTime
	ctx, stop := stoppable(context.Background())
	defer stop()
	ctr, err := ask(ctx, client, cmd.uuid)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(stderr, "what container %s is cannot be seen, so that stock crunch-run gets it: %v\n", cmd.uuid, err)
	}
	if err != nil || !isBuiltin(ctx, client, site, ctr, stderr) {
		stop() // a signal from here on ends this process at once
		if ctx.Err() != nil {
			return context.Cause(ctx) // nothing has begun; stock would not know of the signal
		}
		return stock.exec(cmd.stockArgs, input)
	}
	if siteErr != nil {
		return siteErr
	}
	stock.drop()
	closeLockOnExec()
	if os.Getenv("GOMEMLIMIT") == "" {
		// What was read before is garbage by the time that blocks are written.
		debug.SetMemoryLimit(memoryBase + int64(dockerimage.BlocksInFlight())*keepfile.BlockSize)
	}
	// From here on these two are no longer ignored, but heard.
	saveLogs, tellCost := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(saveLogs, syscall.SIGUSR1)
	signal.Notify(tellCost, syscall.SIGUSR2)
	return builtinrun.Run(ctx, builtinrun.Config{
		UUID:         cmd.uuid,
		Dispatcher:   client,
		InstanceType: os.Getenv("InstanceType"),
		Broken:       locks.brokenFunc(ctx, cmd, site, stderr),
		PricesFile:   locks.prices(),
		SaveLogs:     saveLogs,
		TellCost:     tellCost,
		Links:        site.Links,
		Stderr:       stderr,
	}, builtinrun.Builtin{Site: site})
}

// ask is what the decision needs to know of a container.
func ask(ctx context.Context, client *arvados.Client, uuid string) (ctr arvados.Container, err error) {
	ctx, cancel := context.WithTimeout(ctx, decisionTime)
	defer cancel()
	return ctr, client.RequestAndDecodeContext(ctx, &ctr, "GET", "arvados/v1/containers/"+uuid, nil, map[string]interface{}{
		"select": []string{"uuid", "container_image", "command"},
	})
}

// isBuiltin decides by image and command. A container whose image is one of the
// two reserved names is ours in any case: no stock program could run it. Whether
// another image is ours too, only its content says, and it is looked at only where
// the command is one of ours; when in doubt, stock runs the container.
func isBuiltin(ctx context.Context, client *arvados.Client, site builtin.Site, ctr arvados.Container, stderr io.Writer) bool {
	if ctr.ContainerImage == builtin.Image || ctr.ContainerImage == builtin.NoImage {
		return true
	}
	if _, _, ok := builtin.Find(ctr.Command); !ok || site.IsBuiltin(ctr.ContainerImage) {
		return ok
	}
	timed, cancel := context.WithTimeout(ctx, labelTime)
	defer cancel()
	ours, err := builtinrun.HasLabel(timed, client, ctr.ContainerImage)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(stderr, "whether image %s is for builtin commands cannot be seen, so that stock crunch-run gets the container: %v\n", ctr.ContainerImage, err)
	}
	return ours
}

// stoppable is a context that the signals of dispatchers cancel, until stop is
// called. Those that came before stop are heeded when it returns.
func stoppable(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	go func() {
		defer close(done)
		if sig, ok := <-signals; ok {
			cancel(fmt.Errorf("caught signal: %v", sig))
		}
	}()
	return ctx, sync.OnceFunc(func() {
		signal.Stop(signals)
		close(signals)
		<-done
	})
}
