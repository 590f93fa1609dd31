// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"context"
	"crypto/md5"
	"fmt"
	"hash"
	"io"
	"net/http"
)

// sink takes a block, piece by piece and in order.
type sink interface {
	// put takes the piece that begins at the given offset.
	put(piece []byte, offset int) error
	// restart forgets all pieces. It is false if that cannot be done.
	restart() bool
}

// stream hands the block on.
type stream struct{ to io.Writer }

func (s *stream) put(piece []byte, offset int) error {
	n, err := s.to.Write(piece)
	if err == nil && n < len(piece) {
		return io.ErrShortWrite
	}
	return err
}

func (*stream) restart() bool { return false }

// window keeps len(p) bytes of the block.
type window struct {
	p    []byte
	from int // offset in the block
}

func (w *window) put(piece []byte, offset int) error {
	begin := max(offset, w.from)
	end := min(offset+len(piece), w.from+len(w.p))
	if begin < end {
		copy(w.p[begin-w.from:], piece[begin-offset:end-offset])
	}
	return nil
}

func (*window) restart() bool { return true }

// transfer is one block on its way to a sink, from one service or several.
type transfer struct {
	loc *Locator
	dst sink
	// What the sink has so far: bytes, and their hash. If the bytes come
	// from two services the hash covers both, so it does not matter
	// whether they agree.
	done int
	sum  hash.Hash
}

func newTransfer(loc *Locator, dst sink) *transfer {
	return &transfer{loc: loc, dst: dst, sum: md5.New()}
}

// readFrom goes on with a transfer by the answer of one service.
func (kc *KeepClient) readFrom(ctx context.Context, server string, proxies bool, requestID string, t *transfer) failure {
	ctx, dog := kc.watch(ctx, proxies)
	defer dog.stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/"+t.loc.String(), nil)
	if err != nil {
		return failure{err: err}
	}
	resp, err := kc.send(req, proxies, requestID)
	if err != nil {
		return failure{err: err, again: true}
	}
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	defer resp.Body.Close()
	size := t.loc.Size
	if size < 0 {
		size = int(resp.ContentLength)
	}
	if size > BLOCKSIZE || (resp.ContentLength >= 0 && int64(size) != resp.ContentLength) {
		return failure{err: fmt.Errorf("answer of %d bytes", resp.ContentLength)}
	}

	buf, ok := kc.buffers.Get().(*[]byte)
	if !ok {
		piece := make([]byte, pieceSize)
		buf = &piece
	}
	defer kc.buffers.Put(buf)
	return t.copy(ctx, resp.Body, size, *buf, dog)
}

// copy reads a service's answer from the block's beginning. What the sink has
// already is passed over. A size of -1 is not known.
func (t *transfer) copy(ctx context.Context, body io.Reader, size int, buf []byte, dog *watchdog) failure {
	limit := size
	if limit < 0 {
		limit = BLOCKSIZE
	}
	for at := 0; ; {
		dog.moved()
		n, readErr := body.Read(buf)
		dog.pause()
		if at+n > limit {
			return t.corrupt()
		}
		if fresh := buf[min(n, max(0, t.done-at)):n]; len(fresh) > 0 {
			if err := t.dst.put(fresh, t.done); err != nil {
				return failure{err: err, final: true}
			}
			t.sum.Write(fresh)
			t.done += len(fresh)
		}
		at += n
		switch {
		case readErr == nil:
		case readErr != io.EOF:
			return failure{err: plainError(ctx, readErr), again: true}
		case at < t.done || at < size:
			return failure{err: io.ErrUnexpectedEOF, again: true}
		case fmt.Sprintf("%x", t.sum.Sum(nil)) != t.loc.Hash:
			return t.corrupt()
		default:
			return failure{}
		}
	}
}

// corrupt gives up on a service whose data is not that of the locator. Another
// one can only help if the sink forgets what it has got.
func (t *transfer) corrupt() failure {
	err := fmt.Errorf("block %s: %w", t.loc.bare(), BadChecksum)
	if !t.dst.restart() {
		return failure{err: err, final: true}
	}
	t.done = 0
	t.sum.Reset()
	return failure{err: err}
}
