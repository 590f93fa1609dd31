// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
)

// Saver stores images in Keep. Its fields are not changed while it works; it
// may save several images at a time.
type Saver struct {
	API  API // to look for what Keep already has
	Keep Keep

	// Blocks is how many 64 MiB blocks may be in memory at a time; 0 means
	// four. Where the size of a part is not known beforehand (zstd layers,
	// archives) it takes two even if only one is allowed.
	Blocks int
	Write  arvados.BlockWriteOptions // template: storage classes, replicas
	// Owner is the UUID of whoever wants the image. An image that is in a
	// collection of this owner already is not stored again. Empty: store it
	// anyway.
	Owner string
	// ImageID says what the image's file is called; see there.
	ImageID  ImageID
	Log      logrus.FieldLogger // nil for none
	Progress func(Progress)     // called often, one call at a time; nil for none
}

// Saved is an image in Keep, of which there is no collection yet.
type Saved struct {
	ManifestText string // of the collection to be, signed for the Saver's token
	PDH          string // its portable data hash
	Hash         string // what its file is called, without .tar: ConfigDigest or the manifest's, by ImageID
	ConfigDigest string
	Digests      []string  // index and manifest, as the image source knows them
	Platform     string    // "linux/amd64"; "" if the image does not tell
	Created      time.Time // by the image's config; zero if it does not tell
	Layers       []string  // digests of the layers that have blocks of their own
	LayerCount   int       // of all layers
	RepoTags     []string  // names of the image in the archive that it came from, as they are there
	Size         int64     // of all layers unpacked, in bytes

	Reused     []Reuse
	Written    int64 // bytes stored in Keep
	Downloaded int64 // bytes read from the image source, twice read ones twice
}

// Properties are those of the collection to be, with the image's names as of
// the given time.
func (s *Saved) Properties(repoTags []string, tagged time.Time) Properties {
	return Properties{
		Hash:      s.Hash,
		RepoTags:  repoTags,
		Timestamp: s.Created,
		Digests:   s.allDigests(),
		Platform:  s.Platform,
		Layers:    s.Layers,
		Size:      s.Size,
		Tagged:    tagged,
		PDH:       s.PDH,
	}
}

// allDigests are those by which the image can be looked for besides the name of its
// file. That is among them if it is not the config's, by which ImageID tells it.
func (s *Saved) allDigests() []string {
	all := slices.Clone(s.Digests)
	for _, digest := range []string{s.Hash, s.ConfigDigest} {
		if s.Hash != s.ConfigDigest && !slices.Contains(all, digest) {
			all = append(all, digest)
		}
	}
	return all
}

// Save stores an image whose layers can be read in any order and more than
// once. Layers are stored in parallel; those that some readable collection has
// are taken from there, once they have been read and hashed. The same image
// gives the same portable data hash, whatever was found.
func (s *Saver) Save(ctx context.Context, img imagetar.Image) (*Saved, error) {
	if err := checkFirst(img); err != nil {
		return nil, err
	}
	w := s.start(img.Layers)
	img.Layers = w.metered(img.Layers)
	if saved := w.ownImage(ctx, img); saved != nil {
		return saved, nil
	}
	ctx, stop := w.untilKeepFails(ctx)
	defer stop()
	img, err := w.unpackLayers(ctx, img)
	if err != nil {
		return nil, w.cause(err)
	}
	return w.save(ctx, img)
}

// work is the saving of one image.
type work struct {
	*Saver
	log      logrus.FieldLogger
	writer   *keepfile.Writer
	jobs     int // how many runs may be under way
	shelf    *shelf
	progress *progress

	downloaded atomic.Int64
	mtx        sync.Mutex
	// Of layers, by digest as stored: blocks of big ones that are in Keep
	// already, and the end of those that have been read.
	blocks map[string][]keepfile.Block
	ends   map[string]tail
	reused []Reuse
}

func (s *Saver) start(layers []imagetar.Layer) *work {
	w := &work{Saver: s, log: s.Log, blocks: map[string][]keepfile.Block{}, ends: map[string]tail{}}
	if w.log == nil {
		discard := logrus.New()
		discard.SetOutput(io.Discard)
		w.log = discard
	}
	blocks := s.Blocks
	if blocks < 1 {
		blocks = maxBlocks
	}
	w.jobs = min(blocks, maxBlocks)
	w.writer = keepfile.NewWriter(s.Keep, blocks, s.Write)
	w.shelf = &shelf{api: s.API, log: w.log, asked: map[string]bool{}}
	var total int64
	seen := map[string]bool{}
	for _, layer := range layers {
		if !seen[layer.Digest] {
			seen[layer.Digest] = true
			total += layer.Size
		}
	}
	w.progress = newProgress(s.Progress, total)
	return w
}

// untilKeepFails is ctx, which also ends when a block cannot be stored: whoever
// waits for an image source then must not go on waiting.
func (w *work) untilKeepFails(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-w.writer.Failed():
			cancel(w.writer.Err())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// cause is why saving failed, given one of the errors that came of it.
func (w *work) cause(err error) error {
	if first := w.writer.Err(); first != nil {
		return first
	}
	return err
}

// save lays out the image, stores what is not in Keep yet, and puts everything
// together.
func (w *work) save(ctx context.Context, img imagetar.Image) (*Saved, error) {
	layout, err := imagetar.NewLayout(img)
	if err != nil {
		return nil, err
	}
	blocks, err := w.storeRuns(ctx, layout.Runs(), img.Layers)
	if err != nil {
		return nil, w.cause(err)
	}
	saved := describe(img)
	saved.Hash = w.ImageID.Of(layout)
	saved.ManifestText = keepfile.ManifestText(FileName(saved.Hash), blocks)
	saved.PDH = arvados.PortableDataHash(saved.ManifestText)
	saved.Layers = bigLayers(img.Layers)
	seen := map[string]bool{}
	for _, layer := range img.Layers {
		if seen[layer.Digest] {
			continue
		}
		seen[layer.Digest] = true
		saved.Size += unpackedSize(layer, w.ends[layer.Digest])
	}
	saved.Reused = w.reused
	saved.Written = w.writer.Written()
	saved.Downloaded = w.downloaded.Load()
	return saved, nil
}
