// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"errors"
	"io"
	"slices"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
)

// metered are the layers with everything that is read of them counted.
func (w *work) metered(layers []imagetar.Layer) []imagetar.Layer {
	layers = slices.Clone(layers)
	for i, layer := range layers {
		layers[i].Open = func(ctx context.Context) (io.ReadCloser, error) {
			body, err := layer.Open(ctx)
			if err != nil {
				return nil, sourceFault(layer.Digest, err)
			}
			return &meter{ReadCloser: body, work: w, layer: layer}, nil
		}
	}
	return layers
}

// meter counts what is read of a layer.
type meter struct {
	io.ReadCloser
	work  *work
	layer imagetar.Layer
	done  int64
	tail  tail
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.done += int64(n)
	m.tail.add(p[:n])
	m.work.downloaded.Add(int64(n))
	switch {
	case err == io.EOF:
		m.work.mtx.Lock()
		m.work.ends[m.layer.Digest] = m.tail
		m.work.mtx.Unlock()
		m.work.progress.set(m.layer.Digest, Finished, m.done, m.layer.Size)
	case err != nil:
		err = sourceFault(m.layer.Digest, err)
	default:
		m.work.progress.set(m.layer.Digest, Downloading, m.done, m.layer.Size)
	}
	return n, err
}

// sourceFault makes an error of an image source one that has a side.
func sourceFault(digest string, err error) error {
	var already *fault.Error
	if errors.As(err, &already) {
		return err
	}
	return &fault.Error{Op: "read layer", Side: fault.Registry, Subject: digest, Err: err, Transient: true}
}
