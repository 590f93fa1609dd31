// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"runtime"

	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

type platformSuite struct{}

var _ = check.Suite(&platformSuite{})

func (*platformSuite) TestParse(c *check.C) {
	for text, want := range map[string]string{
		"":                "linux/" + runtime.GOARCH,
		"linux/amd64":     "linux/amd64",
		"Linux/AMD64":     "linux/amd64",
		"linux/x86_64":    "linux/amd64",
		"linux/aarch64":   "linux/arm64",
		"linux/arm/v7":    "linux/arm/v7",
		"linux/armhf":     "linux/arm/v7",
		"linux/armel":     "linux/arm/v6",
		"linux/arm64/v8":  "linux/arm64/v8",
		"windows/amd64":   "windows/amd64",
		"linux/i386":      "linux/386",
		"linux/amd64/v3":  "linux/amd64/v3",
		"linux/mips64le/": "",
		"linux":           "",
		"amd64":           "",
		"/":               "",
		"linux/a/b/c":     "",
		"linux/amd 64":    "",
		"linux/amd64\n":   "",
	} {
		got, err := parsePlatform(text)
		if want == "" {
			checkFault(c, err, fault.Request, false, `request: read platform ".*": this is no platform \(write os/architecture .*\)`)
			continue
		}
		c.Check(err, check.IsNil)
		c.Check(got.String(), check.Equals, want)
		c.Check(got.explicit, check.Equals, text != "")
	}
}

func (*platformSuite) TestBestFit(c *check.C) {
	for _, t := range []struct {
		want string
		have []platform
		best int // index in have, -1 for none
	}{
		{"linux/amd64", []platform{{"linux", "arm64", ""}, {"linux", "amd64", ""}}, 1},
		{"linux/amd64", []platform{{"windows", "amd64", ""}}, -1},
		{"linux/amd64", []platform{{"linux", "amd64", "v3"}, {"linux", "amd64", "v1"}}, 1},
		{"linux/amd64", []platform{{"linux", "amd64", "v2"}}, -1},
		{"linux/amd64/v3", []platform{{"linux", "amd64", ""}, {"linux", "amd64", "v2"}, {"linux", "amd64", "v4"}}, 1},
		{"linux/amd64/v3", []platform{{"linux", "amd64", ""}}, 0},
		{"linux/arm64", []platform{{"linux", "arm64", "v8"}}, 0},
		{"linux/arm64/v8", []platform{{"linux", "arm64", ""}}, 0},
		{"linux/arm64/v9", []platform{{"linux", "arm64", "v8"}, {"linux", "arm64", "v8.2"}}, 0},
		{"linux/arm/v7", []platform{{"linux", "arm", "v5"}, {"linux", "arm", "v6"}}, 1},
		{"linux/arm/v6", []platform{{"linux", "arm", "v7"}, {"linux", "arm", "v5"}}, 1},
		{"linux/arm", []platform{{"linux", "arm", "v6"}, {"linux", "arm", "v7"}}, 1},
		{"linux/ppc64le", []platform{{"linux", "ppc64le", "power8"}}, 0},
		{"linux/s390x", []platform{{"linux", "s390x", ""}, {"linux", "s390x", ""}}, 0},
		{"linux/ppc64le/power9", []platform{{"linux", "ppc64le", "power8"}}, -1},
		{"linux/amd64", []platform{{"unknown", "unknown", ""}, {"", "", ""}}, -1},
	} {
		want, err := parsePlatform(t.want)
		c.Assert(err, check.IsNil)
		best, fit := -1, -1
		for i, has := range t.have {
			if n := want.fits(has); n > fit {
				best, fit = i, n
			}
		}
		c.Check(best, check.Equals, t.best, check.Commentf("%s of %v", t.want, t.have))
	}
	c.Check(platform{}.String(), check.Equals, "unknown/unknown")
}
