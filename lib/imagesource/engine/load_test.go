// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing/iotest"

	"git.arvados.org/arvados.git/lib/fault"
	check "gopkg.in/check.v1"
)

// rewritten is an archive with each member as edit returns it; nil drops it.
func rewritten(c *check.C, archive []byte, edit func(name string, content []byte) []byte) []byte {
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for tr := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			c.Assert(tw.Close(), check.IsNil)
			return out.Bytes()
		}
		c.Assert(err, check.IsNil)
		content, err := io.ReadAll(tr)
		c.Assert(err, check.IsNil)
		if content = edit(header.Name, content); content == nil {
			continue
		}
		header.Size = int64(len(content))
		c.Assert(tw.WriteHeader(header), check.IsNil)
		_, err = tw.Write(content)
		c.Assert(err, check.IsNil)
	}
}

// Archives that an engine cannot take are an error, whatever it answers, and
// leave nothing.
func (s *conformance) TestLoadDamagedArchive(c *check.C) {
	whole := s.image.archive(c)
	layer := strings.TrimPrefix(digestOf(s.image.layer), "sha256:")
	other := busyboxImage(c, newLabel(), "linux/amd64")
	for _, trial := range []struct {
		what    string
		archive []byte
	}{
		{"empty", nil},
		{"no tar", []byte(strings.Repeat("garbage", 1000))},
		{"cut inside the layer", whole[:len(s.image.layer)/2]},
		{"another layer under its name", rewritten(c, whole, func(name string, content []byte) []byte {
			if strings.HasSuffix(name, layer) {
				return other.layer
			}
			return content
		})},
		{"layer missing", rewritten(c, whole, func(name string, content []byte) []byte {
			if strings.HasSuffix(name, layer) {
				return nil
			}
			return content
		})},
		{"metadata missing", rewritten(c, whole, func(name string, content []byte) []byte {
			if strings.HasSuffix(name, ".json") {
				return nil
			}
			return content
		})},
	} {
		id, err := s.engine.Load(context.Background(), bytes.NewReader(trial.archive))
		c.Logf("%s: %v", trial.what, err)
		c.Check(err, check.NotNil, check.Commentf("%s", trial.what))
		c.Check(fault.SideOf(err), check.Equals, fault.Engine)
		c.Check(id, check.Equals, "")
		c.Check(s.leftovers(c), check.HasLen, 0, check.Commentf("%s", trial.what))
	}
}

// Trouble of the source is not blamed on the engine.
func (s *conformance) TestLoadSourceFails(c *check.C) {
	whole := s.image.archive(c)
	keep := &fault.Error{Op: "read block", Side: fault.Keep, Err: errors.New("503"), Transient: true}
	for _, cause := range []error{keep, errors.New("no side")} {
		for _, n := range []int{0, 600, len(whole) / 2, len(whole) - 600} {
			source := io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(cause))
			_, err := s.engine.Load(context.Background(), source)
			c.Check(errors.Is(err, cause), check.Equals, true, check.Commentf("%v", err))
			c.Check(fault.SideOf(err), check.Equals, fault.SideOf(cause))
			c.Check(s.leftovers(c), check.HasLen, 0)
		}
	}
}

func (s *conformance) TestLoadCancelled(c *check.C) {
	whole := s.image.archive(c)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	blocked := readerFunc(func([]byte) (int, error) {
		cancel()
		<-ctx.Done()
		return 0, ctx.Err()
	})
	_, err := s.engine.Load(ctx, io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), blocked))
	c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%v", err))
	c.Check(s.leftovers(c), check.HasLen, 0)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Loading what is there changes nothing, and the id is the same.
func (s *conformance) TestLoadTwice(c *check.C) {
	first, remove := s.loaded(c)
	defer remove()
	second, err := s.engine.Load(context.Background(), bytes.NewReader(s.image.archive(c)))
	c.Assert(err, check.IsNil)
	c.Check(second, check.Equals, first)
	if s.info.Store == StoreContainerd {
		c.Check(first, check.Equals, s.digest)
	} else {
		c.Check(first, check.Equals, digestOf(s.image.config))
	}
}

// An archive with names, as docker save writes them, gives the id as well.
func (s *conformance) TestLoadNamed(c *check.C) {
	named := rewritten(c, s.image.archive(c), func(name string, content []byte) []byte {
		switch name {
		case "manifest.json":
			return bytes.Replace(content, []byte(`"RepoTags":null`), []byte(`"RepoTags":["`+s.registry.Host+`/named:1"]`), 1)
		case "index.json", "oci-layout":
			return nil
		}
		return content
	})
	id, err := s.engine.Load(context.Background(), bytes.NewReader(named))
	c.Assert(err, check.IsNil)
	c.Check(id, check.Matches, "sha256:[0-9a-f]{64}")
	c.Check(s.engine.RemoveImage(context.Background(), id), check.IsNil)
}

func (s *conformance) TestRemoveImageThatIsNotThere(c *check.C) {
	c.Check(s.engine.RemoveImage(context.Background(), "no/such:image"), check.IsNil)
	c.Check(s.engine.ImageExists(context.Background(), "no/such:image"), check.Equals, false)
}
