// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"os"
	"path/filepath"
	"testing"

	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&siteSuite{})

type siteSuite struct{}

func (*siteSuite) TestMissingFileMeansDefaults(c *check.C) {
	site, err := LoadSite(filepath.Join(c.MkDir(), "builtin.yml"))
	c.Assert(err, check.IsNil)
	c.Check(site, check.DeepEquals, Site{
		StockCrunchRun: "/usr/bin/crunch-run",
		Links:          "auto",
		Pull:           SitePull{Source: "auto"},
		Engine:         SiteEngine{Host: "unix:///var/run/docker.sock"},
	})
}

func (*siteSuite) TestAllKeys(c *check.C) {
	site, err := ParseSite([]byte(`
stock_crunch_run: /opt/arvados/crunch-run
builtin_images:
  - aa74aece2d9695e90ea55207736b74f7+132
links: never
pull:
  source: registry
  registries: [registry.example.com, "*.example.org", 127.0.0.1:5000]
  credentials: /etc/arvados/registry.json
  max_size: 50GiB
engine:
  host: unix:///run/other.sock
`))
	c.Assert(err, check.IsNil)
	c.Check(site, check.DeepEquals, Site{
		StockCrunchRun: "/opt/arvados/crunch-run",
		BuiltinImages:  []string{"aa74aece2d9695e90ea55207736b74f7+132"},
		Links:          "never",
		Pull: SitePull{
			Source:      "registry",
			Registries:  []string{"registry.example.com", "*.example.org", "127.0.0.1:5000"},
			Credentials: "/etc/arvados/registry.json",
			MaxSize:     50 << 30,
		},
		Engine: SiteEngine{Host: "unix:///run/other.sock"},
	})
}

func (*siteSuite) TestMistakesAreNamed(c *check.C) {
	for _, trial := range []struct{ text, complaint string }{
		{"links: sometimes", `links: "sometimes" is none of auto, always, never`},
		{"pull: {source: disk}", `pull.source: "disk" is none of auto, registry, engine`},
		{"pull:\n  sauce: engine", `(?s)\[2:3\] unknown field "sauce".*`},
		{"pull: {max_size: plenty}", `(?s).*not a size such as 50GiB.*`},
		{"builtin_images: [debian]", `builtin_images\[0\]: "debian" is not a portable data hash`},
		{"links: [", `(?s)\[1:8\].*`},
	} {
		c.Log(trial.text)
		_, err := ParseSite([]byte(trial.text))
		c.Check(err, check.ErrorMatches, trial.complaint)
	}
}

func (*siteSuite) TestErrorsNameTheFile(c *check.C) {
	path := filepath.Join(c.MkDir(), "builtin.yml")
	c.Assert(os.WriteFile(path, []byte("links: sometimes"), 0600), check.IsNil)
	_, err := LoadSite(path)
	c.Check(err, check.ErrorMatches, `read site file `+path+`: links: .*`)
	_, err = LoadSite(c.MkDir()) // a folder
	c.Check(err, check.ErrorMatches, `read site file .*`)
	c.Check(fault.Transient(err), check.Equals, false)
}

func (*siteSuite) TestWhichImagesAreBuiltin(c *check.C) {
	site := Site{BuiltinImages: []string{"aa74aece2d9695e90ea55207736b74f7+132"}}
	for image, builtin := range map[string]bool{
		"arvados/builtin":                      true,
		"arvados/none":                         true,
		"d41d8cd98f00b204e9800998ecf8427e+0":   true,
		"aa74aece2d9695e90ea55207736b74f7+132": true,
		"aa74aece2d9695e90ea55207736b74f7+133": false,
		"arvados/builtin:latest":               false,
		"arvados/jobs":                         false,
		"":                                     false,
	} {
		c.Check(site.IsBuiltin(image), check.Equals, builtin, check.Commentf("%q", image))
	}
}

func FuzzParseSite(f *testing.F) {
	f.Add([]byte("links: auto\npull: {source: engine, max_size: 1GB}"))
	f.Add([]byte("- a\n- b"))
	f.Add([]byte("pull: 7"))
	f.Fuzz(func(t *testing.T, text []byte) {
		site, err := ParseSite(text)
		if err == nil && (site.Links == "" || site.Pull.Source == "" || site.Engine.Host == "") {
			t.Errorf("accepted without defaults: %+v", site)
		}
	})
}
