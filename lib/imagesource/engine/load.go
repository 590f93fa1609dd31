// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"github.com/docker/docker/client"
)

// What engines print about a loaded image. The id comes for images without
// names, a line for every name otherwise.
const (
	loadedID     = "Loaded image ID: "
	loadedName   = "Loaded image: "
	unpackFailed = "Error unpacking image "
)

// Load hands an image archive with one image to the engine, and returns the id
// by which the engine runs it: with the containerd store that is not the digest
// of the config. It takes whatever layout the engine takes, among them
// imagetar's. An archive that the engine could not take completely is an error
// and leaves nothing.
//
// If reading r fails, the error is that of r.
func (e *Engine) Load(ctx context.Context, r io.Reader) (id string, err error) {
	source := &sourceReader{r: r}
	ids, err := e.load(ctx, source)
	if source.err != nil {
		return "", source.err
	}
	if err == nil && len(ids) != 1 {
		err = fmt.Errorf("the archive has %d images", len(ids))
	}
	if err == nil {
		return ids[0], nil
	}
	cleanup, cancel := detached(ctx)
	defer cancel()
	for _, id := range ids {
		// The containerd store keeps an image that it could not unpack.
		// One that was whole before has been unpacked before.
		if rmErr := e.RemoveImage(cleanup, id); rmErr != nil {
			err = fmt.Errorf("%w; %v", err, rmErr)
		}
	}
	return "", e.fault("load image", "", err)
}

// load returns the ids of the images that are there afterwards, also if err is
// not nil.
func (e *Engine) load(ctx context.Context, r io.Reader) (ids []string, err error) {
	// Quiet: progress bars would come as messages.
	resp, err := e.cli.ImageLoad(ctx, r, client.ImageLoadWithQuiet(true))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var unpack error
	found := map[string]bool{}
	err = readMessages(resp.Body, func(m message) {
		for _, line := range strings.Split(m.Stream, "\n") {
			if strings.HasPrefix(line, unpackFailed) {
				unpack = errors.New(line) // no error field, and a "Loaded image" before it
			}
			name, ok := strings.CutPrefix(line, loadedID)
			if !ok {
				name, ok = strings.CutPrefix(line, loadedName)
			}
			if !ok {
				continue
			}
			if img, err := e.cli.ImageInspect(ctx, name); err == nil && !found[img.ID] {
				found[img.ID] = true
				ids = append(ids, img.ID)
			}
		}
	})
	if err == nil {
		err = unpack
	}
	return ids, err
}

// sourceReader remembers why reading failed: of what the client makes of it,
// nothing says where the trouble was.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
		if fault.SideOf(err) == "" {
			s.err = &fault.Error{Op: "read the image to load", Err: err}
		}
	}
	return n, err
}
