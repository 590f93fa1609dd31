// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagemigrate"
)

// imagesUnlinked are known by properties alone, with a hash and a name each.
const imagesUnlinked = 3_000

// migrateBack gives images their links, and has a sync look for the first time at
// all of them and those that had links before, with nothing left to do.
func migrateBack(ctx context.Context, c *cluster, before int) ([]figure, error) {
	if err := c.fillWithImages(ctx, before, before+imagesUnlinked); err != nil {
		return nil, err
	}
	back, err := c.arvDocker(ctx, "migrate", "--to-links")
	if err != nil {
		return nil, err
	}
	look, err := c.firstLook(ctx)
	if err != nil {
		return nil, err
	}
	images := before + imagesUnlinked
	return []figure{
		newFigure("migrate.to_links_per_second", 2*imagesUnlinked/back.seconds, "1/s", ">= 200", "%d links made of %d images through the embedded API, which has %d besides with theirs",
			2*imagesUnlinked, imagesUnlinked, before),
		newFigure("migrate.sync_first_look_per_second", float64(images)/look.seconds, "1/s", ">= 200", "%d images with links and properties, by sync, with %.0f MiB",
			images, look.rssMiB),
	}, nil
}

// firstLook is a sync that is ended when it has looked at everything once.
func (c *cluster) firstLook(ctx context.Context) (migrated, error) {
	state := filepath.Join(c.dir, "state")
	cmd, err := c.command(ctx, "sync", "--state", state, "--rollback-file", filepath.Join(c.dir, "sync.rollback"))
	if err != nil {
		return migrated{}, err
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return migrated{}, err
	}
	peak := peakMemory(cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		at, err := imagemigrate.LoadSyncPosition(state)
		if err != nil {
			return migrated{}, errors.Join(err, cmd.Process.Kill(), <-ended)
		}
		// Those that have no other property are looked for last, and there are
		// none.
		if !at.Until[dockerimage.KeyHash].IsZero() {
			break
		}
		select {
		case err := <-ended:
			return migrated{}, fmt.Errorf("arv-docker sync has ended: %w\n%s", err, &said)
		case <-time.After(20 * time.Millisecond):
		}
	}
	seconds := time.Since(started).Seconds()
	if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), <-ended); err != nil {
		return migrated{}, fmt.Errorf("arv-docker sync: %w\n%s", err, &said)
	}
	if said.Len() > 0 {
		return migrated{}, fmt.Errorf("arv-docker sync has found something to do:\n%s", &said)
	}
	return migrated{seconds, float64(<-peak) / 1024}, nil
}
