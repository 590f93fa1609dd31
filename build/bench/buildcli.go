// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// dockerCLI is Debian's docker program. It speaks to the engine's BuildKit by
// itself; newer ones need buildx for that.
const dockerCLI = "/usr/bin/docker"

// docker runs the docker program and returns what it prints.
func docker(ctx context.Context, stdin io.Reader, words ...string) (string, error) {
	cmd := exec.CommandContext(ctx, dockerCLI, words...)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=1")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = stdin, &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("docker %s: %w\n%s", words[0], err, &stderr)
	}
	return string(out), err
}

// cliBuild builds an image as one would without Arvados, by docker build and
// docker save, whose bytes go nowhere. It leaves nothing on the engine.
func cliBuild(ctx context.Context, folder string) (seconds float64, archive int64, err error) {
	before, err := cacheRecords(ctx)
	if err != nil {
		return 0, 0, err
	}
	image := fmt.Sprintf("arvados-bench/cli:%d", os.Getpid())
	defer func() {
		removeImage(ctx, image)
		err = errors.Join(err, forgetRecords(ctx, before))
	}()
	started := time.Now()
	if _, err := docker(ctx, nil, "build", noCache, "--quiet", "--tag", image, folder); err != nil {
		return 0, 0, err
	}
	save := exec.CommandContext(ctx, dockerCLI, "save", image)
	save.Stderr = os.Stderr
	stream, err := save.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := save.Start(); err != nil {
		return 0, 0, err
	}
	archive, err = io.Copy(io.Discard, stream)
	return time.Since(started).Seconds(), archive, errors.Join(err, save.Wait())
}

// removeImage removes an image by its name, also after ctx has ended.
func removeImage(ctx context.Context, name string) {
	if _, err := docker(context.WithoutCancel(ctx), nil, "image", "rm", name); err != nil && !strings.Contains(err.Error(), "No such image") {
		fmt.Fprintln(os.Stderr, err)
	}
}

// cacheRecords are the ids of what the engine's build cache has.
func cacheRecords(ctx context.Context) ([]string, error) {
	out, err := docker(ctx, nil, "system", "df", "-v", "--format", "{{json .BuildCache}}")
	if err != nil {
		return nil, err
	}
	var records []struct{ ID string }
	if err := json.Unmarshal([]byte(out), &records); err != nil {
		return nil, fmt.Errorf("docker system df: %w", err)
	}
	var ids []string
	for _, record := range records {
		ids = append(ids, record.ID)
	}
	return ids, nil
}

// forgetRecords removes what has come into the build cache, also after ctx has
// ended. A record goes only after those that build on it, so it takes several
// turns. Of other builds at the same time it may take what they would have found
// later; what they are doing goes on.
func forgetRecords(ctx context.Context, before []string) error {
	ctx = context.WithoutCancel(ctx)
	for last := -1; ; {
		records, err := cacheRecords(ctx)
		if err != nil {
			return err
		}
		records = slices.DeleteFunc(records, func(id string) bool { return slices.Contains(before, id) })
		if len(records) == 0 || len(records) == last { // those left are in use
			return nil
		}
		last = len(records)
		for _, id := range records {
			if _, err := docker(ctx, nil, "builder", "prune", "--all", "--force", "--filter", "id="+id); err != nil {
				return err
			}
		}
	}
}
