// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
)

// smallInMemory is how many bytes of small layers are held for each block in
// flight while an archive is read. What is beyond goes to Keep for the time
// being. It is within what a block is reckoned to cost beside its own memory.
const smallInMemory = 16 << 20

// SaveArchive stores the image in an archive of any dialect that
// imagetar.ScanArchive reads, docker save's among them. The archive is read
// once, as a stream. Layers are stored as they come, before it is known what
// they are needed for; what the image does not need is in no manifest.
func (s *Saver) SaveArchive(ctx context.Context, r io.Reader) (*Saved, error) {
	w := s.start(nil)
	ctx, stop := w.untilKeepFails(ctx)
	defer stop()
	a := &archive{work: w, room: int64(w.jobs) * smallInMemory, small: map[string]opener{}}
	found, err := imagetar.ScanArchive(r, sink(func(name string, size int64, r io.Reader) (imagetar.BlobInfo, error) {
		return a.blob(ctx, name, size, r)
	}))
	if err != nil {
		return nil, w.cause(archiveFault(err))
	}
	for i, layer := range found.Image.Layers {
		found.Image.Layers[i].Open = a.small[layer.Digest]
	}
	saved, err := w.save(ctx, found.Image)
	if err != nil {
		return nil, err
	}
	saved.RepoTags = found.RepoTags
	return saved, nil
}

type sink func(name string, size int64, r io.Reader) (imagetar.BlobInfo, error)

func (f sink) Blob(name string, size int64, r io.Reader) (imagetar.BlobInfo, error) {
	return f(name, size, r)
}

// archive is an archive being read.
type archive struct {
	*work
	room  int64             // bytes of small layers that may still be held
	small map[string]opener // by digest
}

type opener func(context.Context) (io.ReadCloser, error)

// blob stores what may be a layer.
func (a *archive) blob(ctx context.Context, name string, size int64, r io.Reader) (imagetar.BlobInfo, error) {
	hash := sha256.New()
	body := &blobReader{archive: a, from: io.TeeReader(r, hash), name: name, size: size}
	digest := func() string { return fmt.Sprintf("sha256:%x", hash.Sum(nil)) }

	start := make([]byte, imagetar.BigMember)
	if size >= 0 {
		start = start[:min(size, imagetar.BigMember)]
	}
	n, err := io.ReadFull(body, start)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	info := imagetar.BlobInfo{Size: int64(n)}
	if err == nil && n == imagetar.BigMember {
		info.Size, err = a.storeUnknown(ctx, io.MultiReader(bytes.NewReader(start), body), digest)
	} else if err == nil {
		err = a.keepSmall(ctx, digest(), bytes.Clone(start[:n]))
	}
	if err != nil {
		return info, err
	}
	info.Digest = digest()
	a.ends[info.Digest] = body.tail
	a.progress.set(name, Finished, body.done, size)
	return info, nil
}

// keepSmall keeps a small layer until the layout is known: in memory if there
// is room, else as a block in Keep.
func (a *archive) keepSmall(ctx context.Context, digest string, content []byte) error {
	if a.small[digest] != nil {
		return nil
	}
	if a.room -= int64(len(content)); a.room >= 0 || len(content) == 0 {
		a.small[digest] = func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(content)), nil
		}
		return nil
	}
	out, err := a.writer.Run(ctx, 0)
	if err != nil {
		return err
	}
	defer out.Abort()
	if _, err := out.Write(content); err != nil {
		return err
	}
	blocks, err := out.Close(nil)
	if err != nil {
		return err
	}
	file := keepfile.File{Segments: []keepfile.Segment{{Locator: blocks[0].Locator, Length: blocks[0].Size}}}
	a.small[digest] = func(ctx context.Context) (io.ReadCloser, error) {
		return imagetar.Verify(keepfile.NewReader(ctx, a.Keep, file), digest, file.Size()), nil
	}
	return nil
}

// blobReader counts what is read of a member.
type blobReader struct {
	archive *archive
	from    io.Reader
	name    string
	size    int64 // -1 if it is not known
	done    int64
	tail    tail
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	b.done += int64(n)
	b.tail.add(p[:n])
	b.archive.downloaded.Add(int64(n))
	b.archive.progress.set(b.name, Downloading, b.done, b.size)
	return n, err
}

// archiveFault gives a side to the errors of whoever delivers the archive,
// which is an engine unless it says otherwise.
func archiveFault(err error) error {
	var already *fault.Error
	if errors.As(err, &already) {
		return err
	}
	return &fault.Error{Op: "read image", Side: fault.Engine, Err: err, Transient: true}
}
