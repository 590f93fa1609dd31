// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
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
		ImageID: "config",
		Links:   "auto",
		Pull:    SitePull{Source: "auto"},
		Build:   SiteBuild{Builder: "engine", From: "keep-first", Network: "default", Cache: "none", CacheSize: 20 << 30, Limits: SiteLimits{Resources: "warn"}},
		Engine:  SiteEngine{Host: "unix:///var/run/docker.sock"},
	})
}

func (*siteSuite) TestAllKeys(c *check.C) {
	site, err := ParseSite([]byte(`
stock_crunch_run: /opt/arvados/crunch-run
builtin_images:
  - aa74aece2d9695e90ea55207736b74f7+132
image_id: manifest
links: never
pull:
  source: registry
  registries: [registry.example.com, "*.example.org", 127.0.0.1:5000]
  credentials: /etc/arvados/registry.json
  max_size: 50GiB
build:
  enabled: false
  builder: private
  from: keep-only
  network: none
  cache: user
  cache_size: 5GiB
  limits: {time: 90m, context: 10GB, size: "20GiB", layers: 50, resources: refuse}
resolve:
  trust: site
  owners: [zzzzz-tpzed-000000000000000, zzzzz-j7d0g-0123456789abcde]
engine:
  host: unix:///run/other.sock
`))
	c.Assert(err, check.IsNil)
	c.Check(site, check.DeepEquals, Site{
		StockCrunchRun: "/opt/arvados/crunch-run",
		BuiltinImages:  []string{"aa74aece2d9695e90ea55207736b74f7+132"},
		ImageID:        dockerimage.ByManifest,
		Links:          "never",
		Pull: SitePull{
			Source:      "registry",
			Registries:  []string{"registry.example.com", "*.example.org", "127.0.0.1:5000"},
			Credentials: "/etc/arvados/registry.json",
			MaxSize:     50 << 30,
		},
		Build: SiteBuild{
			Enabled: new(bool),
			Builder: "private",
			From:    "keep-only",
			Network: "none",
			Cache:   "user",

			CacheSize: 5 << 30,
			Limits:    SiteLimits{Time: Duration(90 * time.Minute), Context: 10e9, Size: 20 << 30, Layers: 50, Resources: "refuse"},
		},
		Resolve: SiteResolve{Trust: "site", Owners: []string{"zzzzz-tpzed-000000000000000", "zzzzz-j7d0g-0123456789abcde"}},
		Engine:  SiteEngine{Host: "unix:///run/other.sock"},
	})
}

func (*siteSuite) TestMistakesAreNamed(c *check.C) {
	for _, trial := range []struct{ text, complaint string }{
		{"image_id: index", `image_id: "index" is none of config, manifest`},
		{"links: sometimes", `links: "sometimes" is none of auto, always, never`},
		{"pull: {source: disk}", `pull.source: "disk" is none of auto, registry, engine`},
		{"pull:\n  sauce: engine", `(?s)\[2:3\] unknown field "sauce".*`},
		{"pull: {max_size: plenty}", `(?s).*not a size such as 50GiB.*`},
		{"builtin_images: [debian]", `builtin_images\[0\]: "debian" is not a portable data hash`},
		{"build: {builder: kaniko}", `build.builder: "kaniko" is none of engine, private`},
		{"build: {from: hub}", `build.from: "hub" is none of keep-first, registry, keep-only`},
		{"build: {network: host}", `build.network: "host" is none of default, none`},
		{"build: {cache: all}", `build.cache: "all" is none of none, user`},
		{"build: {limits: {time: 90}}", `(?s).*not a time span such as 90m: "90".*`},
		{"build: {limits: {time: -1h}}", `(?s).*not a time span such as 90m.*`},
		{"build: {limits: {resources: hope}}", `build.limits.resources: "hope" is none of warn, refuse`},
		{"resolve: {trust: everybody}", `resolve.trust: "everybody" is none of any, own, site`},
		{"resolve: {owners: [alice]}", `resolve.owners\[0\]: "alice" is not the UUID of a user or project`},
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
