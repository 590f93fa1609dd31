// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/dustin/go-humanize"
)

// progress is how many bytes must have come since the last failure for it to
// be forgotten. Fewer could make a transfer last for ever.
const progress = 64 << 10

// open reads a blob, which must have the given size in bytes and digest. The
// first request is made by the first Read. Errors are *fault.Error of op.
func (ss *session) open(ctx context.Context, op, digest string, size int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, ss.fail(op, digest, err)
	}
	b := &blob{size: size}
	failures := backoff{source: ss.source, tries: blobTries}
	b.connect = func(offset int64) (io.ReadCloser, error) {
		return ss.transfer(ctx, digest, size, offset)
	}
	b.again = func(err error) error {
		if b.pos-b.mark >= progress {
			failures.failed, b.mark = 0, b.pos
		}
		return failures.wait(ctx, err, fmt.Sprintf("%s %.19s from %s, %s of %s", op, digest, ss.ref.Domain, humanize.IBytes(uint64(b.pos)), humanize.IBytes(uint64(size))))
	}
	return &failing{ReadCloser: imagetar.Verify(b, digest, size), fail: func(err error) error { return ss.fail(op, digest, err) }}, nil
}

// blob is one blob, over as many connections as it takes.
type blob struct {
	connect func(offset int64) (io.ReadCloser, error)
	again   func(error) error // waits, or returns the error to give up with
	size    int64
	pos     int64         // bytes passed on
	mark    int64         // pos when failures were last forgotten
	body    io.ReadCloser // nil when not connected
	lost    error         // why not
	err     error         // sticky
}

func (b *blob) Read(p []byte) (int, error) {
	for b.err == nil {
		if b.lost != nil {
			b.lost, b.err = nil, b.again(b.lost)
			continue
		}
		if b.body == nil {
			if body, err := b.connect(b.pos); err != nil {
				b.lost = err
			} else {
				b.body = body
			}
			continue
		}
		n, err := b.body.Read(p)
		b.pos += int64(n)
		if err != nil {
			b.disconnected(err)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, b.err
}

func (b *blob) disconnected(err error) {
	b.body.Close()
	b.body = nil
	switch {
	case b.pos >= b.size: // how the connection ended is of no interest then
		b.err = io.EOF
	case err == io.EOF:
		b.lost = io.ErrUnexpectedEOF
	default:
		b.lost = err
	}
}

// Close drops the connection.
func (b *blob) Close() error {
	b.err = http.ErrBodyReadAfterClose
	if b.body == nil {
		return nil
	}
	body := b.body
	b.body = nil
	return body.Close()
}

// transfer asks for the rest of a blob from offset on.
func (ss *session) transfer(ctx context.Context, digest string, size, offset int64) (_ io.ReadCloser, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			cancel(nil)
		}
	}()
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := ss.get(ctx, "blobs/"+digest, header)
	var status *statusError
	switch {
	case errors.As(err, &status) && status.code == http.StatusRequestedRangeNotSatisfiable:
		return nil, fmt.Errorf("the registry has %d bytes of it or fewer, but the manifest says %d", offset, size)
	case errors.As(err, &status) && status.code == http.StatusNotFound:
		return nil, &cause{text: "the registry has lost this part of the image: " + describe(err), err: err}
	case err != nil:
		return nil, err
	}
	body := &alert{body: resp.Body, cancel: cancel, stall: ss.source.stall}
	body.timer = time.AfterFunc(body.stall, func() { cancel(errStalled) })
	body.cause = func() error { return context.Cause(ctx) }
	defer func() {
		if err != nil {
			body.Close()
		}
	}()
	if resp.StatusCode == http.StatusPartialContent {
		return body, checkRange(resp.Header.Get("Content-Range"), offset, size)
	}
	if resp.ContentLength >= 0 && resp.ContentLength != size {
		return nil, fmt.Errorf("the registry has %d bytes of it, but the manifest says %d", resp.ContentLength, size)
	}
	// The registry ignores Range.
	_, err = io.CopyN(io.Discard, body, offset)
	return body, err
}

var contentRange = regexp.MustCompile(`^bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)$`)

func checkRange(header string, offset, size int64) error {
	m := contentRange.FindStringSubmatch(header)
	if m == nil || m[1] != strconv.FormatInt(offset, 10) {
		return fmt.Errorf("asked for the bytes from %d on, the registry sends something else (Content-Range: %.60q)", offset, header)
	}
	if m[2] != "*" && m[2] != strconv.FormatInt(size, 10) {
		return fmt.Errorf("the registry has %s bytes of it, but the manifest says %d", m[2], size)
	}
	return nil
}

// alert is the body of a response that ends with errStalled when nothing comes
// for too long. The time between Reads does not count.
type alert struct {
	body   io.ReadCloser
	stall  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc // of the request
	cause  func() error            // why it was cancelled
}

func (a *alert) Read(p []byte) (int, error) {
	a.timer.Reset(a.stall)
	n, err := a.body.Read(p)
	a.timer.Stop()
	if err != nil && err != io.EOF && a.cause() != nil {
		err = a.cause()
	}
	return n, err
}

func (a *alert) Close() error {
	a.timer.Stop()
	a.cancel(nil)
	return a.body.Close()
}

// failing makes the errors of a reader those that callers get.
type failing struct {
	io.ReadCloser
	fail func(error) error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = f.fail(err)
	}
	return n, err
}
