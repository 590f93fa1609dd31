// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"errors"
	"io"
	"sync"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

// troubleSuite has what goes wrong in the middle of saving. After each failure
// nothing goes on.
type troubleSuite struct {
	fixture
	layers []imagetar.Layer
}

var _ = check.Suite(&troubleSuite{})

func (s *troubleSuite) SetUpSuite(*check.C) {
	s.layers = []imagetar.Layer{
		randomimage.Layer(1, 9*MiB, imagetar.Gzip),
		randomimage.Layer(2, 5000, imagetar.Gzip),
		randomimage.Layer(3, 6000, imagetar.Zstd),
		randomimage.Layer(4, 5*MiB, imagetar.Zstd),
		randomimage.Layer(5, 5*MiB, imagetar.Plain),
		randomimage.Layer(6, 7000, imagetar.Plain),
	}
}

// image has layers of all kinds.
func (s *troubleSuite) image() imagetar.Image {
	return randomimage.Of(append([]imagetar.Layer(nil), s.layers...)...)
}

func (s *troubleSuite) TestLayerFails(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	broken := &fault.Error{Op: "read layer", Side: fault.Registry, Err: errors.New("gone"), Transient: true}
	for i := range s.image().Layers {
		for _, good := range []int64{-1, 0, 100} {
			for blocks := 1; blocks <= 4; blocks += 3 {
				img := s.image()
				open := img.Layers[i].Open
				img.Layers[i].Open = func(ctx context.Context) (io.ReadCloser, error) {
					if good < 0 {
						return nil, broken
					}
					body, err := open(ctx)
					return &failAfter{ReadCloser: body, left: good, err: broken}, err
				}
				_, err := s.cl.saver(blocks).Save(s.ctx, img)
				c.Check(err, check.Equals, broken, check.Commentf("layer %d after %d bytes", i, good))
			}
		}
	}
}

// Errors without a side are the source's.
func (s *troubleSuite) TestBareErrors(c *check.C) {
	img := forbid(randomimage.New(1, 5*MiB), 0)
	_, err := s.cl.saver(1).Save(s.ctx, img)
	c.Check(err, check.ErrorMatches, `registry: read layer sha256:[0-9a-f]{64}: this layer must not be downloaded`)
	img.Layers[0].Open = func(context.Context) (io.ReadCloser, error) {
		return &failAfter{ReadCloser: io.NopCloser(zeroReader{}), left: 10, err: errors.New("hung up")}, nil
	}
	_, err = s.cl.saver(1).Save(s.ctx, img)
	c.Check(err, check.ErrorMatches, `registry: read layer sha256:[0-9a-f]{64}: hung up`)
	c.Check(fault.Transient(err), check.Equals, true)
}

// A source that breaks its promise about sizes shifts nothing.
func (s *troubleSuite) TestWrongSizes(c *check.C) {
	for _, size := range []int64{3000, 5 * MiB} {
		for _, came := range []int64{0, size - 1, size + 1} {
			img := randomimage.New(1, size)
			img.Layers[0].Open = func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.LimitReader(zeroReader{}, came)), nil
			}
			_, err := s.cl.saver(1).Save(s.ctx, img)
			c.Check(err, check.ErrorMatches, `registry: read layer .*: \d+ bytes came instead of \d+`)
		}
	}
}

func (s *troubleSuite) TestKeepFails(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	for _, trial := range []struct {
		err       error
		transient bool
	}{
		{keeptest.Error{Status: 503, Message: "unavailable"}, true},
		{keeptest.Error{Status: 507, Message: "full"}, true},
		{keeptest.Error{Status: 401, Message: "who are you"}, false},
	} {
		for good := range 5 {
			for _, blocks := range []int{1, 4} {
				s.cl = newCluster()
				var mtx sync.Mutex
				left := good
				s.cl.keep.Script = func(context.Context, *keeptest.Op) error {
					mtx.Lock()
					defer mtx.Unlock()
					if left--; left < 0 {
						return trial.err
					}
					return nil
				}
				_, err := s.cl.saver(blocks).Save(s.ctx, s.image())
				c.Check(err, check.ErrorMatches, `keep: write block of \d+ bytes: `+trial.err.Error())
				c.Check(fault.SideOf(err), check.Equals, fault.Keep)
				c.Check(fault.Transient(err), check.Equals, trial.transient)
			}
		}
	}
}

// When Keep fails, nobody waits for a registry that says nothing.
func (s *troubleSuite) TestKeepFailsWhileRegistryHangs(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	img := randomimage.New(1, 6*MiB, 5*MiB)
	hanging := make(chan struct{})
	img.Layers[0].Open = func(ctx context.Context) (io.ReadCloser, error) {
		close(hanging)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.cl.keep.Script = func(context.Context, *keeptest.Op) error {
		<-hanging
		return keeptest.Error{Status: 503, Message: "unavailable"}
	}
	_, err := s.cl.saver(4).Save(s.ctx, img)
	c.Check(err, check.ErrorMatches, `keep: write block of .* bytes: 503 unavailable`)
}

func (s *troubleSuite) TestCancelled(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	for blocks := 1; blocks <= 4; blocks += 3 {
		ctx, cancel := context.WithCancel(s.ctx)
		s.cl.keep.Script = func(ctx context.Context, _ *keeptest.Op) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		}
		_, err := s.cl.saver(blocks).Save(ctx, s.image())
		c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%v", err))
	}
}
