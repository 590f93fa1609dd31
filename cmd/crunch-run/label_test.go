// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"os"
	"path/filepath"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&labelSuite{})

// labelSuite has images of which only the content says whose containers they are for,
// and a program that stands for Arvados's crunch-run.
type labelSuite struct {
	*node
	ours, theirs string // portable data hashes
}

const stockScript = "#!/bin/sh\necho stock runs $*\n"

func (s *labelSuite) SetUpSuite(c *check.C) {
	s.node = newNode(c)
	c.Assert(os.WriteFile(filepath.Join(s.dir, stockBeside), []byte(stockScript), 0700), check.IsNil)
	s.ours = s.pull(c, s.pushLabelled(c, attrs{builtin.Label: ""}))
	s.theirs = s.pull(c, s.pushShell(c))
}

func (s *labelSuite) TearDownSuite(c *check.C) { s.close(c) }

func (s *labelSuite) pull(c *check.C, name string) (pdh string) {
	ctr, told := s.runIn(c, builtin.Image, name)
	c.Assert(ctr.State, check.Equals, arvados.ContainerStateComplete, check.Commentf(told))
	c.Assert(ctr.Output, check.Not(check.Equals), "", check.Commentf(told))
	return ctr.Output
}

// runIn runs docker pull in an image; told is what crunch-run prints.
func (s *labelSuite) runIn(c *check.C, image, name string) (ctr arvados.Container, told string) {
	cr := s.submit(c, attrs{"container_image": image, "command": []string{"docker", "pull", name}})
	var out bytes.Buffer
	s.foreground(c, cr, &out).Wait() // what it prints says it
	return s.container(c, cr), out.String()
}

// By its command a container may be ours, and the label in the image's config
// decides. As long as the site file has a mistake, those that are ours wait, and all
// others run.
func (s *labelSuite) TestContentDecides(c *check.C) {
	name := s.registry.Host() + "/interop/shell:1"
	ctr, told := s.runIn(c, s.ours, name)
	c.Check(ctr.State, check.Equals, arvados.ContainerStateComplete, check.Commentf(told))
	ctr, told = s.runIn(c, s.theirs, name)
	c.Check(told, check.Equals, "stock runs --runtime-engine=docker "+ctr.UUID+"\n")

	good, err := os.ReadFile(s.site)
	c.Assert(err, check.IsNil)
	c.Assert(os.WriteFile(s.site, []byte("links: sometimes\n"), 0600), check.IsNil)
	defer os.WriteFile(s.site, good, 0600)
	const waits = "ordinary containers only, until this is mended: read site file .*\n"
	ctr, told = s.runIn(c, s.ours, name)
	c.Check(told, check.Matches, waits+"read site file .*\n")
	c.Check(ctr.State, check.Equals, arvados.ContainerStateLocked)
	ctr, told = s.runIn(c, s.theirs, name)
	c.Check(told, check.Matches, waits+"stock runs --runtime-engine=docker "+ctr.UUID+"\n")
}
