// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
)

const (
	imagesStored = 100_000 // each under a name of its own
	imagesOfOne  = 3_000   // more, under one name
	resolutions  = 500     // how many are timed
)

// findFamily measures what images that are in Keep already cost, and how they are
// found among many, by HTTP as one user.
func findFamily(ctx context.Context) ([]figure, error) {
	var figures []figure
	for _, measure := range []func(context.Context) ([]figure, error){findFirstLine, findAgain, findDelta} {
		more, err := measure(ctx)
		if err != nil {
			return nil, err
		}
		figures = append(figures, more...)
	}
	c, err := startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	fmt.Fprintf(os.Stderr, "storing %d images, which takes minutes\n", imagesStored+2*imagesOfOne)
	if err := c.fillWithImages(ctx, 0, imagesStored+2*imagesOfOne); err != nil {
		return nil, err
	}
	for _, measure := range []func(context.Context, *cluster) ([]figure, error){findOne, findAmongMany, findThroughLayer} {
		more, err := measure(ctx, c)
		if err != nil {
			return nil, err
		}
		figures = append(figures, more...)
	}
	return figures, nil
}

// findOne resolves names of each kind, properties and links.
func findOne(ctx context.Context, c *cluster) ([]figure, error) {
	user := c.UserClient(localcluster.User)
	var millis []float64
	for n := range resolutions {
		i := rand.IntN(imagesStored)
		want := storedImage(i)
		name := []string{want.name, "docker.io/" + want.name, "lab/app@" + want.digest, want.pdh()}[n%4]
		started := time.Now()
		found, err := dockerimage.Resolve(ctx, user, name, dockerimage.Policy{Links: true})
		if err != nil {
			return nil, err
		}
		millis = append(millis, time.Since(started).Seconds()*1000)
		if found.PDH != want.pdh() {
			return nil, fmt.Errorf("%s is %s and not %s", name, found.PDH, want.pdh())
		}
	}
	half := median(millis) // sorts them
	return []figure{newFigure("find.resolve_p95_ms", millis[len(millis)*95/100], "ms", "<= 20",
		"names, digests and portable data hashes among %d images; half of them within %.1f ms", imagesStored, half)}, nil
}

// findAmongMany resolves a name of many images: those of a site that builds and
// stores one an hour, and those of one that has brought its old images in at
// once, of which any may be the newest. The worse of both counts.
func findAmongMany(ctx context.Context, c *cluster) ([]figure, error) {
	counted := &countedTransport{inner: arvados.InsecureHTTPClient.Transport}
	user := c.UserClient(localcluster.User)
	user.Client = &http.Client{Transport: counted}
	cost := func(name string) (seconds, megabytes float64, err error) {
		var times []float64
		counted.bytes.Store(0)
		for range rounds {
			started := time.Now()
			if _, err := dockerimage.Resolve(ctx, user, name, dockerimage.Policy{Links: true}); err != nil {
				return 0, 0, err
			}
			times = append(times, time.Since(started).Seconds())
		}
		return median(times), float64(counted.bytes.Load()) / rounds / 1e6, nil
	}
	hourly, few, err := cost(builtHourly)
	if err != nil {
		return nil, err
	}
	atOnce, many, err := cost(broughtIn)
	if err != nil {
		return nil, err
	}
	return []figure{
		newFigure("find.many_s", max(hourly, atOnce), "s", "<= 1",
			"%d images of one name: %.2f s if stored as they were made, %.2f s if all long after", imagesOfOne, hourly, atOnce),
		newFigure("find.many_mb", max(few, many), "MB", "<= 2", "of answers: %.2f MB if stored as they were made, %.2f MB if all long after", few, many),
	}, nil
}

// countedTransport counts the bytes of answers.
type countedTransport struct {
	inner http.RoundTripper
	bytes atomic.Int64
}

func (t *countedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.inner.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(resp.Body, t), resp.Body}
	}
	return resp, err
}

func (t *countedTransport) Write(p []byte) (int, error) {
	t.bytes.Add(int64(len(p)))
	return len(p), nil
}
