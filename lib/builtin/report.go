// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"github.com/dustin/go-humanize"
)

// Report tells the user how an image gets into Keep, in docker's words where
// docker has some: a line on stdout for what is settled, and the container's
// activity for what is under way.
type Report struct {
	out      io.Writer
	activity func(string)
	started  time.Time

	mtx    sync.Mutex
	reused map[string]bool
	said   time.Time // when activity was last updated
}

// activityInterval keeps progress, which comes with every piece of a layer,
// from costing anything.
const activityInterval = 250 * time.Millisecond

// NewReport starts the report of a job.
func NewReport(job *Job) *Report {
	return &Report{out: job.Stdout, activity: job.Activity, started: time.Now(), reused: map[string]bool{}}
}

// Found says which image a name stands for.
func (r *Report) Found(name, platform string, digests []string) {
	fmt.Fprintf(r.out, "%s: pulling %s\n", name, platform)
	for _, digest := range digests {
		if digest != "" {
			fmt.Fprintf(r.out, "Digest: %s\n", digest)
			return
		}
	}
}

// Progress follows dockerimage.Saver.
func (r *Report) Progress(p dockerimage.Progress) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	switch p.State {
	case dockerimage.Reusing:
		r.reused[p.Layer] = true
	case dockerimage.Downloading:
		delete(r.reused, p.Layer) // what was to be reused may prove wrong
	case dockerimage.Finished:
		how := "stored"
		if r.reused[p.Layer] {
			how = "was in Keep already"
		}
		fmt.Fprintf(r.out, "%s: %s, %s\n", Short(p.Layer), Size(p.LayerDone), how)
	}
	if now := time.Now(); now.Sub(r.said) >= activityInterval {
		r.said = now
		text := Size(p.Done)
		if p.Total > 0 {
			text += " of " + Size(p.Total)
		}
		r.activity(text + " in Keep")
	}
}

// Done says what came of it.
func (r *Report) Done(saved *dockerimage.Saved) {
	fmt.Fprintf(r.out, "Image: %s\n", saved.Hash)
	fmt.Fprintf(r.out, "Status: in Keep as %s after %.1f s; %s written\n", saved.PDH, time.Since(r.started).Seconds(), Size(saved.Written))
}

// Short is a digest as docker abbreviates it, also where it stands in the name of
// a member of an image archive.
func Short(digest string) string {
	hex := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(digest, "blobs/sha256/"), "sha256:"), "/layer.tar")
	return hex[:min(12, len(hex))]
}

// Size is a number of bytes for people.
func Size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
