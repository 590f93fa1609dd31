// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localkeep

import (
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// volume is a folder of blocks, in sub-folders by the first three digits of
// their hashes.
type volume string

// unfinished is the prefix of files that are still written to.
const unfinished = "unfinished-"

var errMismatch = errors.New("content does not have the MD5 or length that was announced")

func openVolume(dir string) (volume, error) {
	if err := os.MkdirAll(dir, 0700); err != nil {
		return "", err
	}
	left, err := filepath.Glob(filepath.Join(dir, unfinished+"*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return volume(dir), err
}

// write stores a block. A block that is there already is not written again,
// but the content must be right all the same: the client has sent it to be
// sure that it is stored.
func (v volume) write(hash string, content io.Reader, size int64) error {
	path := v.path(hash)
	if info, err := os.Stat(path); err == nil && info.Size() == size {
		return copyChecked(io.Discard, content, hash, size)
	}
	f, err := os.CreateTemp(string(v), unfinished)
	if err != nil {
		return err
	}
	err = copyChecked(f, content, hash, size)
	if err = errors.Join(err, f.Close()); err == nil {
		if err = os.Mkdir(filepath.Dir(path), 0700); err == nil || errors.Is(err, os.ErrExist) {
			err = os.Rename(f.Name(), path)
		}
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// chunkSize is how much is read, written and hashed at a time; chunks bounds
// the memory of one request.
const (
	chunkSize = 256 << 10
	chunks    = 4
)

var chunkPool = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// copyChecked copies size bytes and checks their MD5, which is computed beside
// the writing since either alone would be the slowest part.
func copyChecked(dst io.Writer, src io.Reader, hash string, size int64) error {
	type piece struct {
		chunk *[chunkSize]byte
		n     int
	}
	hashed, free := make(chan piece, chunks), make(chan struct{}, chunks)
	sum := make(chan string)
	go func() {
		digest := md5.New()
		for p := range hashed {
			digest.Write(p.chunk[:p.n])
			chunkPool.Put(p.chunk)
			<-free
		}
		sum <- fmt.Sprintf("%x", digest.Sum(nil))
	}()
	var total int64
	var err error
	for err == nil {
		free <- struct{}{}
		p := piece{chunk: chunkPool.Get().(*[chunkSize]byte)}
		p.n, err = io.ReadFull(src, p.chunk[:])
		total += int64(p.n)
		if _, writeErr := dst.Write(p.chunk[:p.n]); writeErr != nil {
			err = writeErr
		}
		hashed <- p
	}
	close(hashed)
	got := <-sum
	switch {
	case err != io.EOF && err != io.ErrUnexpectedEOF:
		return err
	case got != hash || total != size:
		return errMismatch
	}
	return nil
}
