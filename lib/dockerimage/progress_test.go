// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	check "gopkg.in/check.v1"
)

type progressSuite struct{ fixture }

var _ = check.Suite(&progressSuite{})

func (s *progressSuite) TestProgress(c *check.C) {
	reused := randomimage.Layer(1, 5*MiB, imagetar.Gzip)
	s.cl.addImage(bob, s.save(c, 2, randomimage.Of(reused)))
	img := randomimage.Of(reused, randomimage.Layer(2, 5*MiB, imagetar.Zstd), randomimage.Layer(3, 3000, imagetar.Gzip), reused)

	saver := s.cl.saver(4)
	var last Progress
	states := map[string][]LayerState{}
	saver.Progress = func(p Progress) { // never two at a time: the race detector would tell
		last = p
		if seen := states[p.Layer]; len(seen) == 0 || seen[len(seen)-1] != p.State {
			states[p.Layer] = append(seen, p.State)
		}
		c.Check(p.Total, check.Equals, int64(10*MiB+3000))
		c.Check(p.Done <= p.Total, check.Equals, true)
		c.Check(p.LayerDone <= p.LayerSize, check.Equals, true)
	}
	_, err := saver.Save(s.ctx, img)
	c.Assert(err, check.IsNil)
	c.Check(last.Done, check.Equals, last.Total)
	c.Check(last.State, check.Equals, Finished)
	c.Check(states, check.DeepEquals, map[string][]LayerState{
		img.Layers[0].Digest: {Reusing, Finished},
		img.Layers[1].Digest: {Downloading, Finished},
		img.Layers[2].Digest: {Downloading, Finished},
	})
}

// A layer that turns out to be a fake starts again.
func (s *progressSuite) TestReuseInVain(c *check.C) {
	img := randomimage.New(1, 5*MiB)
	saved := s.save(c, 2, img)
	s.cl.addImage(bob, saved)
	s.cl.keep.Script = func(_ context.Context, op *keeptest.Op) error {
		if !op.Write {
			op.Data = append([]byte(nil), op.Data...)
			op.Data[3*MiB]++
		}
		return nil
	}
	saver := s.cl.saver(2)
	var states []LayerState
	var least int64 = 1
	saver.Progress = func(p Progress) {
		if len(states) == 0 || states[len(states)-1] != p.State {
			states = append(states, p.State)
		}
		least = min(least, p.Done)
		c.Check(p.Done <= p.Total, check.Equals, true)
	}
	_, err := saver.Save(s.ctx, img)
	c.Assert(err, check.IsNil)
	c.Check(states, check.DeepEquals, []LayerState{Reusing, Downloading, Finished})
	c.Check(least, check.Equals, int64(0))
}
