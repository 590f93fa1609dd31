// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"context"
	"maps"
	"regexp"
	"sync"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"golang.org/x/sync/errgroup"
)

// maxDeep is how many bytes of one image are read for its properties at most. Its
// headers and metadata are some 100 KiB where a block begins with each layer; of
// blocks that begin anywhere all is read up to the last header in them. The ends
// of layers, for their sizes, take up to a block of 64 MiB each.
const maxDeep = 512 << 20

// told is what an image tells of itself, or why it cannot be read.
type told struct {
	properties dockerimage.Properties
	err        error
}

// learned is what is planned once all images have been read that have to be.
func (r *run) learned(ctx context.Context, chunk []group) ([]*job, error) {
	for {
		jobs, err := r.plan(ctx, chunk)
		if err != nil {
			return nil, err
		}
		var unknown []*job
		for _, j := range jobs {
			if !r.tells(j) {
				continue
			}
			if said, ok := r.told[j.content()]; ok {
				j.deepen(said)
			} else {
				unknown = append(unknown, j)
			}
		}
		if len(unknown) == 0 {
			return jobs, nil
		}
		if err := r.learn(ctx, unknown); err != nil {
			return nil, err
		}
		// That takes minutes: what collections have may be another by now.
	}
}

// tells reports whether the image is to tell what links do not.
func (r *run) tells(j *job) bool {
	return r.Deep != nil && j.coll.UUID != "" && j.coll.Obstacle == "" && !j.change.Left && lacks(j.coll.Properties)
}

// content is what images are known by while they are read: a collection may get
// another one meanwhile.
func (j *job) content() string { return j.coll.UUID + " " + j.coll.PortableDataHash }

// learn reads images.
func (r *run) learn(ctx context.Context, jobs []*job) error {
	var mtx sync.Mutex
	readers, reading := errgroup.WithContext(ctx)
	readers.SetLimit(cmp.Or(r.Parallel, defaultParallel))
	for _, j := range jobs {
		readers.Go(func() error {
			properties, err := dockerimage.Describe(reading, r.Deep, j.coll.foundIn(), maxDeep)
			if reading.Err() != nil {
				return context.Cause(reading)
			}
			if isTrouble(err) {
				return &fault.Error{Op: "read images", Side: fault.Keep, Err: err, Transient: fault.Transient(err),
					Hint: "start it again; if it is always this image, have its blocks mended, or leave out what only images tell"}
			}
			mtx.Lock()
			defer mtx.Unlock()
			r.told[j.content()] = told{properties, err}
			return nil
		})
	}
	return readers.Wait()
}

// isTrouble reports whether reading other images makes no sense either: Keep does
// not answer, does not take the token, or has no services. What is wrong with an image is not Keep's,
// and may be told in words of the image, which anybody can have written.
func isTrouble(err error) bool {
	return fault.Transient(err) || fault.SideOf(err) == fault.Keep && nothingToRead.MatchString(err.Error())
}

// nothingToRead is how clients of Keep say, in words only, that it does not take a
// token, or that the API server knows of no services.
var nothingToRead = regexp.MustCompile(`(: |HTTP )40[13] |: no Keep services`)

// lacks reports whether properties may be missing that the image tells. Digests and
// layers are missing of many images that have none, so they are no reason to read
// one whose other properties are there.
func lacks(properties map[string]interface{}) bool {
	return properties[keyPDH] == nil || properties[keyPlatform] == nil || properties[keySize] == nil
}

// deepen adds what the image tells.
func (j *job) deepen(t told) {
	p := &plan{Change: j.change}
	defer func() { j.change = p.Change }()
	if t.err != nil {
		p.note(NotRead, "%v", t.err)
		return
	}
	if t.properties.Size == 0 {
		p.note(NoSize, "")
	}
	deeper := p.Properties
	if deeper == nil {
		deeper = maps.Clone(j.coll.Properties)
	}
	if deeper == nil {
		deeper = map[string]interface{}{}
	}
	written := t.properties.Map()
	for _, key := range []string{keyPDH, keySize, keyPlatform, keyLayers, keyDigest} {
		if value, ok := written[key]; ok && deeper[key] == nil {
			deeper[key] = value
			p.Properties = deeper
		}
	}
}
