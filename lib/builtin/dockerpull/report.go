// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerpull

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"github.com/dustin/go-humanize"
)

// report tells the user how a pull goes, in docker's words where docker has
// some: a line on stdout for what is settled, and the container's activity for
// what is under way.
type report struct {
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

func newReport(out io.Writer, activity func(string)) *report {
	return &report{out: out, activity: activity, started: time.Now(), reused: map[string]bool{}}
}

// found says which image the name stands for.
func (r *report) found(name, platform string, digests []string) {
	fmt.Fprintf(r.out, "%s: pulling %s\n", name, platform)
	for _, digest := range digests {
		if digest != "" {
			fmt.Fprintf(r.out, "Digest: %s\n", digest)
			return
		}
	}
}

// progress follows dockerimage.Saver.
func (r *report) progress(p dockerimage.Progress) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	switch p.State {
	case dockerimage.Reusing:
		r.reused[p.Layer] = true
	case dockerimage.Downloading:
		delete(r.reused, p.Layer) // what was to be reused may prove wrong
	case dockerimage.Finished:
		how := "pulled"
		if r.reused[p.Layer] {
			how = "was in Keep already"
		}
		fmt.Fprintf(r.out, "%s: %s, %s\n", short(p.Layer), size(p.LayerDone), how)
	}
	if now := time.Now(); now.Sub(r.said) >= activityInterval {
		r.said = now
		text := size(p.Done)
		if p.Total > 0 {
			text += " of " + size(p.Total)
		}
		r.activity(text + " in Keep")
	}
}

// done says what came of it.
func (r *report) done(saved *dockerimage.Saved) {
	fmt.Fprintf(r.out, "Image: %s\n", saved.ConfigDigest)
	fmt.Fprintf(r.out, "Status: in Keep as %s after %.1f s; %s written\n", saved.PDH, time.Since(r.started).Seconds(), size(saved.Written))
}

// short is a digest as docker abbreviates it.
func short(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(12, len(hex))]
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
