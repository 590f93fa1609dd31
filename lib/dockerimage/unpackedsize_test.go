// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"git.arvados.org/arvados.git/lib/imagetar"
	check "gopkg.in/check.v1"
)

type sizeSuite struct{}

var _ = check.Suite(&sizeSuite{})

func (*sizeSuite) TestTail(c *check.C) {
	for _, pieces := range [][]string{{"abcdefgh"}, {"abcde", "fgh"}, {"abcdefg", "h"}, {"a", "b", "c", "d", "e", "f", "g", "h"}, {"abcdefgh", ""}, {"abcdef", "g", "", "h"}} {
		var t tail
		for _, p := range pieces {
			t.add([]byte(p))
		}
		c.Check(string(t[:]), check.Equals, "efgh", check.Commentf("%q", pieces))
	}
}

func (*sizeSuite) TestUnpackedSize(c *check.C) {
	const gzip, plain = "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar"
	for _, trial := range []struct {
		mediaType string
		packed    int64
		end       tail // little-endian
		want      int64
	}{
		{plain, 1000, tail{1, 2, 3, 4}, 1000},
		{gzip, 1000, tail{0, 0x10, 0, 0}, 0x1000},
		{gzip, 40 * MiB, tail{0, 0, 0, 6}, 96 * MiB},
		{gzip, 40*MiB + 700, tail{0, 0, 0x80, 2}, 40 * MiB}, // not compressible
		{gzip, 2 << 30, tail{0, 0, 0, 0x40}, 5 << 30},       // more than fits the field
		{gzip, 9 << 30, tail{0, 0, 0, 0x40}, 9 << 30},
		{gzip, 30 * MiB, tail{}, 90 * MiB}, // eStargz
		{gzip, 30 * MiB, tail{0, 0, 1, 0}, 90 * MiB},
	} {
		layer := imagetar.Layer{MediaType: trial.mediaType, Size: trial.packed}
		c.Check(unpackedSize(layer, trial.end), check.Equals, trial.want, check.Commentf("%v", trial))
	}
}

func (*sizeSuite) TestBlockSizes(c *check.C) {
	c.Check(blockSizes(512), check.DeepEquals, []int64{512})
	c.Check(blockSizes(64*MiB), check.DeepEquals, []int64{64 * MiB})
	c.Check(blockSizes(128*MiB+1), check.DeepEquals, []int64{64 * MiB, 64 * MiB, 1})
}
