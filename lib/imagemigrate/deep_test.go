// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
	"gopkg.in/check.v1"
)

type deepSuite struct {
	fixture
	keep *keeptest.Keep
}

var _ = check.Suite(&deepSuite{})

func (t *deepSuite) SetUpTest(c *check.C) {
	t.fixture.SetUpTest(c)
	t.keep = keeptest.New()
}

// saved stores an image, with a link to it, and returns what is said of it.
func (t *deepSuite) saved(c *check.C, n int64, properties record) (uuid string, said dockerimage.Properties) {
	saver := &dockerimage.Saver{API: &view{server: t.s}, Keep: t.keep.As("admin")}
	saved, err := saver.Save(t.ctx, randomimage.New(n, 5<<20, 3000))
	c.Assert(err, check.IsNil)
	uuid = t.s.collection(alice, t.keep.Sign(saved.ManifestText, "admin"), properties)
	t.s.get(uuid)["portable_data_hash"] = saved.PDH
	t.s.link(alice, className, fmt.Sprintf("lab/app:%d", n), uuid, made)
	return uuid, saved.Properties(nil, time.Time{})
}

func (t *deepSuite) run(c *check.C, dry bool) (Summary, error) {
	return (&Migration{Store: ByAPI(&view{server: t.s}, 0), Deep: t.keep.As("admin"), DryRun: dry, Rollback: rollbackFile(c), Report: t.report}).Run(t.ctx)
}

// What is missing is filled in, what is there stays, and what needs nothing is not
// read.
func (t *deepSuite) TestFilledIn(c *check.C) {
	bare, said := t.saved(c, 1, nil)
	some, _ := t.saved(c, 2, record{keyPlatform: "linux/other", keyDigest: []string{"sha256:" + hexOf(3)}})
	trashed, _ := t.saved(c, 3, nil)
	t.s.get(trashed)["is_trashed"] = true
	none := t.s.image(alice, 4, nil)
	t.s.link(alice, className, "lab/none:1", none, made)
	before := t.s.properties(c)
	_, err := t.run(c, true)
	c.Assert(err, check.IsNil)
	c.Check(t.s.properties(c), check.Equals, before)
	summary, err := t.run(c, false)
	c.Assert(err, check.IsNil)
	c.Check(summary.Written, check.Equals, 3)
	c.Check(summary.Cases[NotRead], check.Equals, 1)

	of := func(uuid string) dockerimage.Properties {
		properties := t.s.get(uuid)["properties"].(record)
		return dockerimage.ParseProperties(properties)
	}
	got := of(bare)
	c.Check([]interface{}{got.PDH, got.Platform, got.Size, got.Layers, got.Digests}, check.DeepEquals,
		[]interface{}{said.PDH, said.Platform, said.Size, said.Layers, said.Digests})
	c.Check(of(some).Platform, check.Equals, "linux/other")
	c.Check(of(some).Digests, check.DeepEquals, []string{"sha256:" + hexOf(3)})
	c.Check(of(some).Layers, check.HasLen, 1)
	c.Check(of(none).PDH, check.Equals, "")
	c.Check(of(none).RepoTags, check.DeepEquals, []string{"lab/none:1"})
	read := t.keep.Stats().BytesRead
	writes := t.s.writes
	_, err = t.run(c, false)
	c.Assert(err, check.IsNil)
	c.Check(t.s.writes, check.Equals, writes)
	c.Check(t.keep.Stats().BytesRead, check.Equals, read)
}

// What somebody changes while images are read is not lost.
func (t *deepSuite) TestChangedMeanwhile(c *check.C) {
	uuid, said := t.saved(c, 1, nil)
	other, _ := t.saved(c, 2, nil)
	t.keep.Script = func(context.Context, *keeptest.Op) error {
		t.s.mtx.Lock()
		defer t.s.mtx.Unlock()
		t.s.get(uuid)["properties"] = record{"mine": "1"}
		t.s.get(other)["is_trashed"] = true
		return nil
	}
	summary, err := t.run(c, false)
	c.Assert(err, check.IsNil)
	c.Check(summary.Written, check.Equals, 1)
	properties := t.s.get(uuid)["properties"].(record)
	c.Check(properties["mine"], check.Equals, "1")
	c.Check(dockerimage.ParseProperties(properties).PDH, check.Equals, said.PDH)
	c.Check(t.rows[other].Cases, check.DeepEquals, []Case{{Kind: TrashedHead}})
}

// Whatever is written in an archive, only that image is not read.
func (t *deepSuite) TestWordsOfAnImage(c *check.C) {
	good, said := t.saved(c, 1, nil)
	for i, word := range []string{"a: 403 b", "HTTP 401 x"} {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		text := `[{"Config":"` + word + `","RepoTags":null,"Layers":[]}]`
		c.Assert(w.WriteHeader(&tar.Header{Name: "manifest.json", Mode: 0644, Size: int64(len(text))}), check.IsNil)
		_, err := w.Write([]byte(text))
		c.Assert(err, check.IsNil)
		c.Assert(w.Close(), check.IsNil)
		block, err := t.keep.As("admin").BlockWrite(t.ctx, arvados.BlockWriteOptions{Data: archive.Bytes()})
		c.Assert(err, check.IsNil)
		uuid := t.s.collection(alice, fmt.Sprintf(". %s 0:%d:sha256\\072%s.tar\n", block.Locator, archive.Len(), hexOf(10+i)), nil)
		t.s.link(alice, className, "lab/odd:1", uuid, made)
		summary, err := t.run(c, false)
		c.Assert(err, check.IsNil)
		c.Check(summary.Cases[NotRead], check.Equals, i+1)
		cases := t.rows[uuid].Cases
		c.Check(cases[len(cases)-1].Detail, check.Matches, `request: .*`+word+`.*`)
	}
	c.Check(dockerimage.ParseProperties(t.s.get(good)["properties"].(record)).PDH, check.Equals, said.PDH)
}

// An image that cannot be read gets what links tell; a run that is stopped says
// nothing of images.
func (t *deepSuite) TestKeepFails(c *check.C) {
	uuid, _ := t.saved(c, 1, nil)
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	t.keep.Script = func(context.Context, *keeptest.Op) error { return keeptest.Error{Status: 404, Message: "no block"} }
	summary, err := t.run(c, false)
	c.Assert(err, check.IsNil)
	c.Check(summary.Written, check.Equals, 1)
	cases := t.rows[uuid].Cases
	c.Check(cases[len(cases)-1].Kind, check.Equals, NotRead)
	c.Check(strings.Contains(cases[len(cases)-1].Detail, "404 no block"), check.Equals, true)
	// Trouble with Keep itself says nothing of this image.
	for status, transient := range map[int]bool{401: false, 403: false, 503: true} {
		t.keep.Script = func(context.Context, *keeptest.Op) error { return keeptest.Error{Status: status, Message: "not now"} }
		writes := t.s.writes
		_, err = t.run(c, false)
		c.Check(fault.SideOf(err), check.Equals, fault.Keep, check.Commentf("%d", status))
		c.Check(fault.Transient(err), check.Equals, transient)
		c.Check(t.s.writes, check.Equals, writes)
	}
	c.Check(isTrouble(&fault.Error{Side: fault.Keep, Err: errors.New(`http://keep/x: HTTP 401 ""`)}), check.Equals, true) // as the SDK of Arvados has it
	// An API server that knows of no services has lost no block.
	none := &keepclient.KeepClient{Arvados: &arvadosclient.ArvadosClient{}}
	c.Assert(none.LoadKeepServicesFromJSON(`{"items":[]}`), check.IsNil)
	writes := t.s.writes
	_, err = (&Migration{Store: ByAPI(&view{server: t.s}, 0), Deep: none, Rollback: rollbackFile(c)}).Run(t.ctx)
	c.Check(err, check.ErrorMatches, `keep: read images: .*: no Keep services.*`)
	c.Check(t.s.writes, check.Equals, writes)
	t.keep.Script = func(context.Context, *keeptest.Op) error {
		cancel()
		return errors.New("stopped")
	}
	t.ctx = ctx
	_, err = t.run(c, false)
	t.ctx = context.Background()
	c.Check(errors.Is(err, context.Canceled), check.Equals, true)
}
