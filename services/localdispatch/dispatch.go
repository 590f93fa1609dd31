// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package localdispatch is the dispatcher of the embedded cluster. It starts
// crunch-run for queued containers by the protocol of arvados-dispatch-cloud
// (config on stdin, detach, list, kill) on the machine that it runs on, so
// that what works here works there. It never runs a container itself, and
// keeps no state: after a restart it finds its processes by --list.
package localdispatch

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
)

// Dispatcher starts and watches containers. All fields are required.
type Dispatcher struct {
	Client    *arvados.Client   // with the system root token
	CrunchRun string            // path of the program
	Args      []string          // as Containers.CrunchRunArgumentsList
	Env       map[string]string // for crunch-run, by its stdin
	Log       logrus.FieldLogger

	MaxRunning   int           // containers at a time
	PollInterval time.Duration // between two looks at queue and processes
}

// staleAfter is how many looks in a row a process must be missing from --list
// before its container is given up: one look may fall between a start and its
// lock file.
const staleAfter = 2

// Run dispatches until ctx ends. Containers that run then go on.
func (d *Dispatcher) Run(ctx context.Context) {
	missing := map[string]int{} // looks without a process, by container UUID
	for tick := time.NewTicker(d.PollInterval); ; {
		if err := d.look(ctx, missing); err != nil && ctx.Err() == nil {
			d.Log.Warnf("dispatch: %v", err)
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

// look brings processes and queue together once.
func (d *Dispatcher) look(ctx context.Context, missing map[string]int) error {
	alive, err := d.processes(ctx)
	if err != nil {
		return err
	}
	var queue arvados.ContainerList
	// Read after the processes: a process that has gone has updated its
	// record before.
	err = d.Client.RequestAndDecodeContext(ctx, &queue, "GET", "arvados/v1/containers", nil, map[string]interface{}{
		"filters": [][]interface{}{{"state", "in", []string{"Queued", "Locked", "Running"}}},
		"order":   []string{"priority desc", "created_at"},
		"limit":   1000,
		"count":   "none",
	})
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, ctr := range queue.Items {
		known[ctr.UUID] = true
		switch {
		case ctr.State == arvados.ContainerStateQueued:
			if ctr.Priority > 0 && len(alive) < d.MaxRunning && !alive[ctr.UUID] {
				if err := d.start(ctx, ctr); err != nil {
					return err
				}
				alive[ctr.UUID] = true
			}
		case alive[ctr.UUID]:
			delete(missing, ctr.UUID)
			if ctr.Priority == 0 {
				d.kill(ctx, ctr.UUID)
			}
		default:
			if missing[ctr.UUID]++; missing[ctr.UUID] >= staleAfter {
				d.giveUp(ctx, ctr)
				delete(missing, ctr.UUID)
			}
		}
	}
	return d.killFinal(ctx, alive, known)
}

// killFinal ends processes whose containers are final, as when somebody
// cancelled one. Processes of containers that this cluster does not know are
// somebody else's.
func (d *Dispatcher) killFinal(ctx context.Context, alive, known map[string]bool) error {
	var unknown []string
	for uuid := range alive {
		if !known[uuid] {
			unknown = append(unknown, uuid)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	var final arvados.ContainerList
	err := d.Client.RequestAndDecodeContext(ctx, &final, "GET", "arvados/v1/containers", nil, map[string]interface{}{
		"filters": [][]interface{}{{"uuid", "in", unknown}, {"state", "in", []string{"Complete", "Cancelled"}}},
		"count":   "none",
	})
	for _, ctr := range final.Items {
		d.kill(ctx, ctr.UUID)
	}
	return err
}

// start locks a container and starts its process. When that fails, the next
// looks find the container locked without a process.
func (d *Dispatcher) start(ctx context.Context, ctr arvados.Container) error {
	if err := d.Client.RequestAndDecodeContext(ctx, nil, "POST", "arvados/v1/containers/"+ctr.UUID+"/lock", nil, nil); err != nil {
		return err
	}
	env := map[string]string{
		"ARVADOS_API_HOST":  d.Client.APIHost,
		"ARVADOS_API_TOKEN": d.Client.AuthToken,
	}
	for key, value := range d.Env {
		env[key] = value
	}
	config, err := json.Marshal(map[string]interface{}{"Env": env, "KeepBuffers": 0, "EC2SpotCheck": false, "Cluster": nil})
	if err != nil {
		return err
	}
	args := append([]string{"--detach", "--stdin-config", "--runtime-engine=docker"}, d.Args...)
	if _, err := d.command(ctx, config, append(args, ctr.UUID)...); err != nil {
		return err
	}
	d.Log.Infof("dispatch: started %s", ctr.UUID)
	return nil
}

// giveUp ends a container whose process has gone without a final state.
func (d *Dispatcher) giveUp(ctx context.Context, ctr arvados.Container) {
	var err error
	if ctr.State == arvados.ContainerStateLocked {
		err = d.Client.RequestAndDecodeContext(ctx, nil, "POST", "arvados/v1/containers/"+ctr.UUID+"/unlock", nil, nil)
	} else {
		err = d.Client.RequestAndDecodeContext(ctx, nil, "PUT", "arvados/v1/containers/"+ctr.UUID, nil, map[string]interface{}{
			"container": map[string]interface{}{"state": arvados.ContainerStateCancelled},
		})
	}
	d.Log.Warnf("dispatch: %s was %s without a process: given up, error %v", ctr.UUID, ctr.State, err)
}

// processes are the UUIDs of the containers that have a process.
func (d *Dispatcher) processes(ctx context.Context) (map[string]bool, error) {
	out, err := d.command(ctx, nil, "--list")
	if err != nil {
		return nil, err
	}
	alive := map[string]bool{}
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "-dz642-") && !strings.Contains(line, " ") { // not "broken", not "UUID stale"
			alive[line] = true
		}
	}
	return alive, nil
}

func (d *Dispatcher) kill(ctx context.Context, uuid string) {
	// An error says that the process still lives: the next look tries again.
	if _, err := d.command(ctx, nil, "--kill", fmt.Sprint(int(syscall.SIGTERM)), uuid); err != nil {
		d.Log.Infof("dispatch: %v", err)
	}
}

func (d *Dispatcher) command(ctx context.Context, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.CrunchRun, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("crunch-run %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
