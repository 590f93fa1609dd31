// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/registry"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&jobSuite{})

type jobSuite struct{}

const layer = "sha256:3e02ab0694c8a2f8941fa464ecd613e7544a30abe1d4fbd5b36fdba717d446bb"

func (*jobSuite) TestReport(c *check.C) {
	var out bytes.Buffer
	var activity []string
	r := NewReport(&Job{Stdout: &out, Activity: func(text string) { activity = append(activity, text) }})
	r.Found("alpine:3.22", "linux/amd64", []string{"", "sha256:index", "sha256:manifest"})
	r.Progress(dockerimage.Progress{State: dockerimage.Reusing, Layer: "sha256:reused", Done: 1 << 20, Total: 4 << 20})
	r.Progress(dockerimage.Progress{State: dockerimage.Downloading, Layer: layer, Done: 2 << 20, Total: 4 << 20}) // too soon to be told
	r.Progress(dockerimage.Progress{State: dockerimage.Finished, Layer: "sha256:reused", LayerDone: 1 << 20})
	r.Progress(dockerimage.Progress{State: dockerimage.Finished, Layer: layer, LayerDone: 3 << 20})
	r.Done(&dockerimage.Saved{Hash: "sha256:config", PDH: "pdh+1", Written: 3 << 20})
	c.Check(activity, check.DeepEquals, []string{"1.0 MiB of 4.0 MiB in Keep"})
	c.Check(out.String(), check.Matches, `alpine:3.22: pulling linux/amd64
Digest: sha256:index
reused: 1.0 MiB, was in Keep already
3e02ab0694c8: 3.0 MiB, stored
Image: sha256:config
Status: in Keep as pdh\+1 after \d+\.\d s; 3.0 MiB written
`)
}

func (*jobSuite) TestShort(c *check.C) {
	for _, name := range []string{layer, "blobs/sha256/" + layer[7:], layer[7:] + "/layer.tar"} {
		c.Check(Short(name), check.Equals, "3e02ab0694c8")
	}
}

// A layer that was to be reused may prove wrong.
func (*jobSuite) TestReuseThatFails(c *check.C) {
	var out bytes.Buffer
	r := NewReport(&Job{Stdout: &out, Activity: func(string) {}})
	for _, state := range []dockerimage.LayerState{dockerimage.Reusing, dockerimage.Downloading, dockerimage.Finished} {
		r.Progress(dockerimage.Progress{State: state, Layer: layer, LayerDone: 1024})
	}
	c.Check(out.String(), check.Equals, "3e02ab0694c8: 1.0 KiB, stored\n")
}

func (*jobSuite) TestCredentials(c *check.C) {
	path := filepath.Join(c.MkDir(), "config.json")
	c.Assert(os.WriteFile(path, []byte("site"), 0600), check.IsNil)
	for _, trial := range []struct {
		secrets map[string][]byte
		site    string
		want    string
	}{
		{nil, "", ""},
		{nil, path, "site"},
		{map[string][]byte{registry.CredentialsPath: []byte("own")}, path, "own"},
		{map[string][]byte{"/other": []byte("x")}, "", ""},
	} {
		got, err := (&Job{Secrets: trial.secrets, Site: Site{Pull: SitePull{Credentials: trial.site}}}).Credentials()
		c.Assert(err, check.IsNil)
		c.Check(string(got), check.Equals, trial.want)
	}
	_, err := (&Job{Site: Site{Pull: SitePull{Credentials: path + ".gone"}}}).Credentials()
	c.Check(err, check.ErrorMatches, `engine: read credentials of the site .*gone: .*`)
	c.Check(fault.SideOf(err), check.Equals, fault.Engine)
}

// What a registry refuses is the request's fault if it has brought nothing.
func (*jobSuite) TestRefused(c *check.C) {
	refusal := &fault.Error{Side: fault.Registry, Op: "read manifest", Err: registry.ErrUnauthorized}
	other := &fault.Error{Side: fault.Registry, Op: "read manifest", Err: io.ErrUnexpectedEOF}
	own := &Job{Secrets: map[string][]byte{registry.CredentialsPath: nil}}
	c.Check(own.Refused(refusal, "x"), check.Equals, error(refusal))
	job := &Job{}
	c.Check(job.Refused(other, "x"), check.Equals, error(other))
	c.Check(job.Refused(nil, "x"), check.IsNil)
	err := job.Refused(fmt.Errorf("line 1: %w", refusal), "arv-docker pull --credentials FILE a:1")
	c.Check(err, check.ErrorMatches, `request: check secret_mounts: line 1: registry: read manifest: the registry refuses access `+
		`\(the request has no credentials; if it is a copy, made to run another one again, it has lost them, and arv-docker pull --credentials FILE a:1 sends it with credentials\)`)
	code, _ := ExitCode(err)
	c.Check(code, check.Equals, 2)
	passing := &fault.Error{Side: fault.Registry, Err: registry.ErrUnauthorized, Transient: true}
	_, lasting := ExitCode(job.Refused(passing, "x"))
	c.Check(lasting, check.Equals, false)
}

// Administrators can read everybody's images, so for them a name means less.
func (*jobSuite) TestPolicy(c *check.C) {
	for _, trial := range []struct {
		trust string
		admin bool
		want  dockerimage.Trust
	}{
		{"", false, ""},
		{"", true, dockerimage.TrustSite},
		{"any", true, dockerimage.TrustAny},
		{"own", false, dockerimage.TrustOwn},
	} {
		job := Job{Admin: trial.admin, Owner: "me", Site: Site{Links: "auto", Resolve: SiteResolve{Trust: trial.trust, Owners: []string{"them"}}}}
		c.Check(job.Policy(), check.DeepEquals, dockerimage.Policy{Links: true, Trust: trial.want, Own: []string{"me"}, Site: []string{"them"}})
		job.Site.Links = "never"
		c.Check(job.Policy().Links, check.Equals, false)
	}
}
