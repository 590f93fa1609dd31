// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"sync"

	"git.arvados.org/arvados.git/lib/imagetar"
)

// prefetched is how many small layers are in memory at a time for one run. At
// less than imagetar.BigMember each, that is within what a block is reckoned to
// cost beside its own memory.
const prefetched = 4

// prefetch reads small layers before they are asked for.
type prefetch struct {
	layers  []imagetar.Layer
	fetch   func(layer imagetar.Layer, buf []byte) ([]byte, error)
	stop    func() // ends all reading, and waits until it has ended
	results []chan fetched
	buffers [prefetched][]byte
	started int
	asked   int
	active  sync.WaitGroup
}

type fetched struct {
	content []byte
	err     error
}

// newPrefetch starts reading. read fills the buffer, which is large enough.
func newPrefetch(ctx context.Context, layers []imagetar.Layer, read func(context.Context, imagetar.Layer, []byte) ([]byte, error)) *prefetch {
	ctx, cancel := context.WithCancel(ctx)
	p := &prefetch{layers: layers}
	p.fetch = func(layer imagetar.Layer, buf []byte) ([]byte, error) { return read(ctx, layer, buf) }
	p.stop = func() {
		cancel()
		p.active.Wait()
	}
	for range min(prefetched, len(layers)) {
		p.start()
	}
	return p
}

func (p *prefetch) start() {
	layer, slot := p.layers[p.started], p.started%prefetched
	if int64(cap(p.buffers[slot])) < layer.Size {
		p.buffers[slot] = make([]byte, layer.Size)
	}
	buf, result := p.buffers[slot], make(chan fetched, 1)
	p.results = append(p.results, result)
	p.started++
	p.active.Add(1)
	go func() {
		defer p.active.Done()
		content, err := p.fetch(layer, buf)
		result <- fetched{content, err}
	}()
}

// next is the content of the next layer, valid until the following call.
func (p *prefetch) next() ([]byte, error) {
	if p.asked > 0 && p.started < len(p.layers) {
		p.start() // in the memory of what was asked for before
	}
	result := <-p.results[p.asked]
	p.asked++
	return result.content, result.err
}
