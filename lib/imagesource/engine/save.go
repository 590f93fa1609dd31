// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/docker/docker/client"
)

// save starts the stream of "docker save". What it holds differs from engine to
// engine (imagetar.ScanArchive reads all of it), and engines may leave out
// layers that they lack without a word, so it must be checked. The reader ends
// with an error, not with io.EOF, when the engine says in the stream that it
// failed or when the connection breaks. Close ends the request at any time.
func (e *Engine) save(ctx context.Context, image, platform string, info Info) (io.ReadCloser, error) {
	var opts []client.ImageSaveOption
	if info.Store == StoreContainerd && e.atLeast("1.48") {
		// Else the whole index comes, with what is there of other platforms.
		opts = append(opts, client.ImageSaveWithPlatforms(parsePlatform(platform)))
	}
	ctx, cancel := context.WithCancel(ctx)
	body, err := e.cli.ImageSave(ctx, []string{image}, opts...)
	if err != nil {
		cancel()
		return nil, e.fault("save image", image, err)
	}
	return &saveStream{engine: e, image: image, body: body, cancel: cancel}, nil
}

// saveStream reads the body of a save and looks at its end.
type saveStream struct {
	engine *Engine
	image  string
	body   io.ReadCloser
	cancel context.CancelFunc
	tail   []byte
}

// tailSize is more than an error message has.
const tailSize = 8 << 10

func (s *saveStream) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if n >= tailSize {
		s.tail = append(s.tail[:0], p[n-tailSize:n]...)
	} else if n > 0 {
		s.tail = append(s.tail, p[:n]...)
		if drop := len(s.tail) - tailSize; drop > 0 {
			s.tail = append(s.tail[:0], s.tail[drop:]...)
		}
	}
	if errors.Is(err, io.EOF) {
		// An engine that fails after the first byte appends its error to
		// the tar. A tar that is whole ends with zeros.
		if failure := trailingError(s.tail); failure != nil {
			return n, s.engine.fault("save image", s.image, failure)
		}
		return n, io.EOF
	}
	if err != nil {
		if !isCancel(err) {
			err = errors.Join(errCut, err)
		}
		return n, s.engine.fault("save image", s.image, err)
	}
	return n, nil
}

func (s *saveStream) Close() error {
	s.cancel()
	return s.body.Close()
}

// trailingError is the error object at the end of a stream, nil if there is
// none.
func trailingError(tail []byte) error {
	text := string(tail)
	i := strings.LastIndex(text, `{"errorDetail"`)
	if i < 0 {
		return nil
	}
	var m message
	if json.Unmarshal([]byte(text[i:]), &m) != nil {
		return nil
	}
	return m.failure()
}
