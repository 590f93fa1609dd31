// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"io"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

type findSuite struct{}

var _ = check.Suite(&findSuite{})

func (*findSuite) TestCheck(c *check.C) {
	const hash = "sha256:0123456789012345678901234567890123456789012345678901234567890123"
	const locators = ". 781e5e245d69b566979b86e28d23f2c7+10 "
	good := locators + `0:10:sha256\072` + hash[7:] + ".tar\n"
	for _, trial := range []struct {
		manifest string
		props    Properties
		want     string
	}{
		{good, Properties{}, ""},
		{good, Properties{Hash: hash, PDH: "own"}, ""},
		{good, Properties{Hash: hash[:70]}, `its file is sha256:.*\.tar but it claims to be image .*`},
		{good, Properties{PDH: "other"}, `it was changed since it was made \(portable data hash own, at first other\)`},
		{"", Properties{}, `it has 0 files and folders instead of one file`},
		{good + "./.git" + good[1:], Properties{}, `it has 2 files and folders instead of one file`},
		{"./d d41d8cd98f00b204e9800998ecf8427e+0 0:0:\\056\n", Properties{}, `it has 1 files and folders instead of one file`},
		{"bad", Properties{}, `keep: read manifest line 1: .*`},
		{locators + "0:10:x.tar\n", Properties{}, `its file "x.tar" has not the name of an image`},
		{"./d" + good[1:], Properties{}, `its file "d/sha256:.*.tar" has not the name of an image`},
		{locators + `0:10:sha256\072` + hash[8:] + ".tar\n", Properties{}, `its file .* has not the name of an image`},
	} {
		err := Found{PDH: "own", ManifestText: trial.manifest, Properties: trial.props}.Check()
		if trial.want == "" {
			c.Check(err, check.IsNil)
		} else {
			c.Check(err, check.ErrorMatches, trial.want)
		}
	}
}

func (*findSuite) TestAPIRefuses(c *check.C) {
	cl := newCluster()
	for status, transient := range map[int]bool{401: false, 422: false, 429: true, 503: true} {
		cl.fail = &arvados.TransactionError{StatusCode: status}
		_, err := FindByLayer(context.Background(), cl, "sha256:x")
		c.Check(err, check.ErrorMatches, `api: find image collections with sha256:x: .*`)
		c.Check(fault.Transient(err), check.Equals, transient)
	}
	cl.fail = io.ErrUnexpectedEOF
	_, err := FindByDigest(context.Background(), cl, "sha256:x", alice)
	c.Check(fault.Transient(err), check.Equals, true)
}
