// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"sort"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
	"golang.org/x/sync/errgroup"
)

// storeRuns stores the runs of a layout and returns all blocks in order.
func (w *work) storeRuns(ctx context.Context, runs []imagetar.Run, layers []imagetar.Layer) ([]keepfile.Block, error) {
	stored := make([][]keepfile.Block, len(runs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(w.jobs)
	for _, i := range largestFirst(runs) {
		g.Go(func() (err error) {
			stored[i], err = w.storeRun(ctx, runs[i], layers)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var blocks []keepfile.Block
	for _, b := range stored {
		blocks = append(blocks, b...)
	}
	return blocks, nil
}

// largestFirst is the order in which the last run to end ends soonest.
func largestFirst(runs []imagetar.Run) []int {
	order := make([]int, len(runs))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return runs[order[a]].Span() > runs[order[b]].Span() })
	return order
}

func (w *work) storeRun(ctx context.Context, run imagetar.Run, layers []imagetar.Layer) ([]keepfile.Block, error) {
	if m := run.Members[0]; len(run.Members) == 1 && m.Layer >= 0 && m.Size >= imagetar.BigMember {
		if blocks, err := w.have(ctx, layers[m.Layer]); err != nil || blocks != nil {
			return blocks, err
		}
	}
	out, err := w.writer.Run(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer out.Abort()
	next, stop := contents(ctx, run.Members, layers)
	defer stop()
	for _, m := range run.Members {
		if _, err := out.Write(m.Header()); err != nil {
			return nil, err
		}
		if err := next(out); err != nil {
			return nil, err
		}
		if _, err := out.Write(m.Padding()); err != nil {
			return nil, err
		}
	}
	if _, err := out.Write(make([]byte, run.Trailer)); err != nil {
		return nil, err
	}
	return out.Close(nil)
}

// contents returns a function that writes the contents of the members, one
// with each call, and one that ends what goes on for it. Small layers are
// fetched a few at a time before their turn comes, since each costs the time
// of a request.
func contents(ctx context.Context, members []imagetar.Member, layers []imagetar.Layer) (next func(*keepfile.Run) error, stop func()) {
	var small []imagetar.Layer
	for _, m := range members {
		if m.Layer >= 0 && m.Size < imagetar.BigMember {
			small = append(small, layers[m.Layer])
		}
	}
	ahead := newPrefetch(ctx, small, readSmall)
	i := 0
	next = func(out *keepfile.Run) error {
		m := members[i]
		i++
		switch {
		case m.Layer < 0:
			_, err := out.Write(m.Content)
			return err
		case m.Size < imagetar.BigMember:
			content, err := ahead.next()
			if err == nil {
				_, err = out.Write(content)
			}
			return err
		}
		return download(ctx, layers[m.Layer], out)
	}
	return next, ahead.stop
}

// have is a big layer's blocks if Keep has them already.
func (w *work) have(ctx context.Context, layer imagetar.Layer) ([]keepfile.Block, error) {
	w.mtx.Lock()
	blocks := w.blocks[layer.Digest]
	w.mtx.Unlock()
	if blocks != nil {
		return blocks, nil
	}
	got, err := w.reuse(ctx, layer, layer.Digest, layer.Size)
	if got == nil || err != nil {
		return nil, err
	}
	return got.blocks, nil
}

// download streams a big layer into out.
func download(ctx context.Context, layer imagetar.Layer, out *keepfile.Run) error {
	body, err := layer.Open(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	n, err := out.ReadFrom(body)
	if err == nil && n != layer.Size {
		err = wrongSize(layer, n)
	}
	return err
}

// readSmall reads a small layer into buf, which is large enough.
func readSmall(ctx context.Context, layer imagetar.Layer, buf []byte) ([]byte, error) {
	body, err := layer.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	n, err := io.ReadFull(body, buf[:layer.Size])
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, wrongSize(layer, int64(n))
	}
	if err != nil {
		return nil, err
	}
	// The end is where a reader says that the digest is right.
	if more, err := io.Copy(io.Discard, body); err != nil || more > 0 {
		return nil, cmp.Or(err, wrongSize(layer, int64(n)+more))
	}
	return buf[:layer.Size], nil
}

func wrongSize(layer imagetar.Layer, n int64) error {
	return &fault.Error{Op: "read layer", Side: fault.Registry, Subject: layer.Digest,
		Err: fmt.Errorf("%d bytes came instead of %d", n, layer.Size), Transient: true}
}
