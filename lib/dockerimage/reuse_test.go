// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

type reuseSuite struct {
	fixture
	base  []imagetar.Layer // of several images: big, small, very big
	old   imagetar.Image   // base and a layer of its own
	young imagetar.Image   // base and another layer
}

var _ = check.Suite(&reuseSuite{})

func (s *reuseSuite) SetUpSuite(*check.C) {
	s.base = []imagetar.Layer{
		randomimage.Layer(1, 5*MiB, imagetar.Gzip),
		randomimage.Layer(2, 5000, imagetar.Gzip),
		randomimage.Layer(3, 70*MiB, imagetar.Gzip),
	}
	s.old = randomimage.Of(append(s.base[:3:3], randomimage.Layer(4, 4*MiB, imagetar.Gzip))...)
	s.young = randomimage.Of(append(s.base[:3:3], randomimage.Layer(5, 6*MiB, imagetar.Gzip))...)
}

func (s *reuseSuite) TestOnlyNewLayersAreDownloaded(c *check.C) {
	fresh := s.save(c, 4, s.young)
	s.cl = newCluster()
	uuid := s.cl.addImage(bob, s.save(c, 4, s.old))
	before := s.cl.keep.Stats()
	s.cl.requests = nil
	saved := s.save(c, 4, forbid(s.young, 0, 2))

	c.Check(saved.PDH, check.Equals, fresh.PDH) // spliced or not, the same
	c.Check(saved.Downloaded, check.Equals, int64(6*MiB+5000))
	c.Check(saved.Written < 7*MiB, check.Equals, true)
	// Bob's locators come signed for alice, and were read before use.
	c.Check(s.cl.keep.Stats().BytesRead-before.BytesRead, check.Equals, int64(75*MiB+2*512))
	c.Check(saved.Size, check.Equals, fresh.Size)
	c.Check(len(saved.Reused), check.Equals, 2)
	for _, r := range saved.Reused {
		c.Check(r.Collection, check.Equals, uuid)
		c.Check(r.Owner, check.Equals, bob)
		c.Check(map[string]int64{s.base[0].Digest: 5 * MiB, s.base[2].Digest: 70 * MiB}[r.Layer], check.Equals, r.Bytes)
	}
	s.cl.valid(c, saved)
	// One answer served several layers.
	c.Check(len(s.cl.requests) <= 3, check.Equals, true, check.Commentf("%v", s.cl.requests))
}

func (s *reuseSuite) TestNewestCollectionFirst(c *check.C) {
	saved := s.save(c, 4, s.old)
	s.cl.addImage(bob, saved)
	newer := s.cl.addImage(bob, saved)
	again := s.save(c, 4, s.young)
	c.Assert(again.Reused, check.HasLen, 2)
	c.Check(again.Reused[0].Collection, check.Equals, newer)
}

// liar stores the blocks of s.old's 5 MiB layer with the given changes under
// its name, and a collection of bob's that says it has the layer.
func (s *reuseSuite) liar(c *check.C, change func(member []byte) []byte) string {
	layer := s.base[0]
	body, err := layer.Open(s.ctx)
	c.Assert(err, check.IsNil)
	content, err := io.ReadAll(body)
	c.Assert(err, check.IsNil)
	m := imagetar.Member{Name: imagetar.BlobName(layer.Digest), Size: layer.Size}
	member := change(append(append(m.Header(), content...), m.Padding()...))
	run, err := keepfile.NewWriter(s.cl.client(), 1, arvados.BlockWriteOptions{}).Run(s.ctx, 0)
	c.Assert(err, check.IsNil)
	_, err = run.Write(member)
	c.Assert(err, check.IsNil)
	blocks, err := run.Close(nil)
	c.Assert(err, check.IsNil)
	props := Properties{Layers: []string{layer.Digest}}
	return s.cl.add(bob, keepfile.ManifestText("sha256:x.tar", blocks), props.Map())
}

// A layer that somebody has planted is found out, named in the log, and
// downloaded instead.
func (s *reuseSuite) TestPoisonedLayers(c *check.C) {
	for _, trial := range []struct {
		change  func(member []byte) []byte
		problem string
	}{
		{func(m []byte) []byte { m[3*MiB]++; return m }, `under the name of this layer it has sha256:[0-9a-f]{64}`},
		{func(m []byte) []byte { m[512]++; return m }, `under the name of this layer it has sha256:.*`},
		{func(m []byte) []byte { m[0]++; return m }, `it has no blocks that are those of this layer alone`},
		{func(m []byte) []byte { m[100]++; return m }, `it has no blocks that are those of this layer alone`},
		{func(m []byte) []byte { return m[:len(m)-512] }, `it has no blocks that are those of this layer alone`},
		{func(m []byte) []byte { return append(m, make([]byte, 512)...) }, `it has no blocks that are those of this layer alone`},
		{func(m []byte) []byte { return []byte("nothing") }, `it has no blocks that are those of this layer alone`},
	} {
		s.cl = newCluster()
		uuid := s.liar(c, trial.change)
		saved := s.save(c, 2, randomimage.Of(s.base[0], s.base[1]))
		c.Check(saved.Reused, check.HasLen, 0)
		c.Check(s.cl.log.String(), check.Matches,
			`(?s).*level=warning msg="collection `+uuid+` \(owner `+bob+`\) cannot be used for layer `+s.base[0].Digest+`, which it says it has: `+trial.problem+`"\n.*`)
		s.cl.valid(c, saved)
	}
}

// Padding is not covered by the layer's digest.
func (s *reuseSuite) TestPoisonedPadding(c *check.C) {
	layer := randomimage.Layer(7, 4*MiB+1, imagetar.Gzip)
	s.base[0], layer = layer, s.base[0]
	defer func() { s.base[0] = layer }()
	s.liar(c, func(m []byte) []byte { m[len(m)-1] = 1; return m })
	saved := s.save(c, 2, randomimage.Of(s.base[0]))
	c.Check(saved.Reused, check.HasLen, 0)
	c.Check(s.cl.log.String(), check.Matches, `(?s).*what follows the layer is not padding.*`)
	s.cl.valid(c, saved)
}

func (s *reuseSuite) TestUnreadableBlocks(c *check.C) {
	for message, script := range map[string]func(op *keeptest.Op) error{
		"404 not found":     func(*keeptest.Op) error { return keeptest.Error{Status: 404, Message: "not found"} },
		"503 unavailable":   func(*keeptest.Op) error { return keeptest.Error{Status: 503, Message: "unavailable"} },
		"end before":        func(op *keeptest.Op) error { op.Data = op.Data[:len(op.Data)/2]; return nil },
		"checksum mismatch": func(op *keeptest.Op) error { op.Data = append(bytes.Clone(op.Data), 0); return nil },
	} {
		s.cl = newCluster()
		s.cl.addImage(bob, s.save(c, 2, randomimage.Of(s.base[0])))
		s.cl.keep.Script = func(_ context.Context, op *keeptest.Op) error {
			if op.Write {
				return nil
			}
			return script(op)
		}
		saved := s.save(c, 2, randomimage.Of(s.base[0], randomimage.Layer(8, 3000, imagetar.Gzip)))
		c.Check(saved.Reused, check.HasLen, 0, check.Commentf(message))
		c.Check(s.cl.log.String(), check.Matches, `(?s).*cannot be used for layer.*`)
		s.cl.keep.Script = nil
		s.cl.valid(c, saved)
	}
}

// After a collection that lies, an honest one is found; after three that lie,
// no more are tried.
func (s *reuseSuite) TestSeveralCollections(c *check.C) {
	honest := s.cl.addImage(bob, s.save(c, 2, randomimage.Of(s.base[0])))
	img := randomimage.Of(s.base[0], randomimage.Layer(8, 3000, imagetar.Gzip))
	for i := range 4 {
		saved := s.save(c, 2, img)
		if i < maxTried {
			c.Assert(saved.Reused, check.HasLen, 1)
			c.Check(saved.Reused[0].Collection, check.Equals, honest)
		} else {
			c.Check(saved.Reused, check.HasLen, 0)
		}
		s.liar(c, func(m []byte) []byte { m[512+i]++; return m })
	}
}

// Copies of one collection lie alike, so one is enough.
func (s *reuseSuite) TestCopiesAreTriedOnce(c *check.C) {
	for range 3 {
		s.liar(c, func(m []byte) []byte { m[3*MiB]++; return m })
	}
	s.save(c, 2, randomimage.Of(s.base[0]))
	c.Check(strings.Count(s.cl.log.String(), "cannot be used"), check.Equals, 1)
}

// Collections that are no image collections at all.
func (s *reuseSuite) TestOddCollections(c *check.C) {
	whole := s.save(c, 2, randomimage.Of(s.base[0])).ManifestText
	ten := s.cl.keep.Sign(". 781e5e245d69b566979b86e28d23f2c7+10 0:10:x\n", "")
	props := Properties{Layers: []string{s.base[0].Digest}}.Map()
	for _, manifest := range []string{
		"",
		ten,
		"garbage\n",
		whole + "./other" + strings.TrimPrefix(whole, "."), // two files
		strings.Replace(whole, " 0:", " 1:", 1),            // shifted, if it parses at all
	} {
		uuid := s.cl.add(bob, manifest, props)
		saved := s.save(c, 2, randomimage.Of(s.base[0], s.base[1]))
		c.Check(saved.Reused, check.HasLen, 0)
		c.Check(s.cl.log.String(), check.Matches, `(?s).*collection `+uuid+` .* cannot be used.*`)
		s.cl.collections = nil
	}
}

// Looking for layers may fail; then everything is downloaded.
func (s *reuseSuite) TestAPIFails(c *check.C) {
	s.cl.fail = errors.New("database on fire")
	saver := s.cl.saver(4)
	saver.Owner = alice
	saved, err := saver.Save(s.ctx, s.young)
	c.Assert(err, check.IsNil)
	c.Check(s.cl.log.String(), check.Matches, `(?s).*cannot look for image.*database on fire.*cannot look for layer .*database on fire.*`)
	s.cl.fail = nil
	s.cl.valid(c, saved)
}

// A layer can be reused wherever it is in the archive, also between others of
// the same size.
func (s *reuseSuite) TestLayersOfEqualSize(c *check.C) {
	var layers []imagetar.Layer
	for i := range 4 {
		layers = append(layers, randomimage.Layer(int64(20+i), 4*MiB, imagetar.Plain))
	}
	s.cl.addImage(bob, s.save(c, 4, randomimage.Of(layers...)))
	saved := s.save(c, 4, forbid(randomimage.Of(layers[2], layers[3], layers[0]), 0, 1, 2))
	c.Check(saved.Reused, check.HasLen, 3)
	c.Check(s.cl.log.String(), check.Equals, "")
	s.cl.valid(c, saved)
}

// Blocks end exactly with the layer.
func (s *reuseSuite) TestLayerThatFillsItsBlock(c *check.C) {
	layer := randomimage.Layer(30, 64*MiB-512, imagetar.Plain)
	s.cl.addImage(bob, s.save(c, 4, randomimage.Of(layer, s.base[0])))
	saved := s.save(c, 4, forbid(randomimage.Of(s.base[0], layer), 0, 1))
	c.Check(saved.Reused, check.HasLen, 2)
	s.cl.valid(c, saved)
}

func (s *reuseSuite) TestCancelledWhileReading(c *check.C) {
	s.cl.addImage(bob, s.save(c, 2, randomimage.Of(s.base[0])))
	ctx, cancel := context.WithCancelCause(s.ctx)
	s.cl.keep.Script = func(ctx context.Context, op *keeptest.Op) error {
		if !op.Write {
			cancel(fmt.Errorf("user is gone"))
			<-ctx.Done()
		}
		return ctx.Err()
	}
	_, err := s.cl.saver(2).Save(ctx, s.young)
	c.Check(err, check.ErrorMatches, `.*(user is gone|context canceled).*`)
	c.Check(s.cl.log.String(), check.Equals, "") // it is not the collection's fault
}
