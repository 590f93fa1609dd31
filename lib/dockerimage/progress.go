// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import "sync"

// LayerState is what happens to a layer.
type LayerState string

const (
	Downloading LayerState = "download" // it is read from the image source
	Reusing     LayerState = "reuse"    // it is checked where Keep has it
	Finished    LayerState = "done"
)

// Progress is how far a Saver has come. Sizes are in bytes, as the image source
// has the layers.
type Progress struct {
	Done, Total int64 // of all layers; Total is 0 while it is unknown

	// What has changed: one layer.
	Layer                string // digest, or the member's name in an archive
	State                LayerState
	LayerDone, LayerSize int64 // LayerSize is -1 while it is unknown
}

// progress calls a callback with every change, one at a time.
type progress struct {
	call   func(Progress)
	mtx    sync.Mutex
	now    Progress
	layers map[string]int64
}

func newProgress(call func(Progress), total int64) *progress {
	return &progress{call: call, now: Progress{Total: total}, layers: map[string]int64{}}
}

// set says that done bytes of a layer have been dealt with. They may become
// fewer, when something has to be done again.
func (p *progress) set(layer string, state LayerState, done, size int64) {
	if p.call == nil {
		return
	}
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.now.Done += done - p.layers[layer]
	p.layers[layer] = done
	p.now.Layer, p.now.State, p.now.LayerDone, p.now.LayerSize = layer, state, done, size
	p.call(p.now)
}
