// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"gopkg.in/check.v1"
)

// Images whose properties are lost get them back from links and the image itself;
// what is there stays, and what cannot be read is told.
func (s *migrateSuite) TestDeep(c *check.C) {
	dir := c.MkDir()
	undo := "--rollback-file=" + filepath.Join(dir, "rollback")
	img := randomimage.New(1, 5<<20, 3000)
	var whole attrs
	uuid := s.store(c, img, func(properties attrs) { whole = properties }, "lab/app:1")
	want := s.collection(c, uuid).Properties
	c.Assert(s.user.RequestAndDecode(nil, "PATCH", "arvados/v1/collections/"+uuid, nil,
		attrs{"collection": attrs{"properties": attrs{"type": "output", "arv:docker-image-platform": "linux/other"}}}), check.IsNil)
	said := attrs{"image_timestamp": want["docker-image-timestamp"]}
	s.addLink(c, linkHash, whole["docker-image-hash"].(string), uuid, said)
	s.addLink(c, linkName, "lab/app:1", uuid, said)
	broken := s.linked(c, 2, nil, "lab/broken:1")
	original := s.properties(c)

	dry := s.run(c, "migrate", "--deep", "--dry-run")
	c.Check(dry.out, check.Matches, `(?s).*`+broken+`: not-read request: read image in collection .*collections to be written: 2,.*`)
	c.Check(s.properties(c), check.Equals, original)
	report := filepath.Join(dir, "report")
	s.run(c, "migrate", "--deep", undo, "--report", report)
	got := s.collection(c, uuid).Properties
	want["type"], want["arv:docker-image-platform"] = "output", "linux/other"
	delete(want, "arv:docker-image-tagged") // when the link was made
	c.Check(got["arv:docker-image-tagged"], check.NotNil)
	delete(got, "arv:docker-image-tagged")
	c.Check(got, check.DeepEquals, want)
	c.Check(s.collection(c, broken).Properties["arv:docker-image-pdh"], check.IsNil)
	lines, err := os.ReadFile(report)
	c.Assert(err, check.IsNil)
	for _, line := range strings.Split(strings.TrimSpace(string(lines)), "\n") {
		var row struct {
			Collection string
			Cases      []struct{ Kind string }
		}
		c.Assert(json.Unmarshal([]byte(line), &row), check.IsNil)
		c.Check(strings.Contains(line, `"kind":"not-read"`), check.Equals, row.Collection == broken)
	}

	s.asked()
	s.run(c, "migrate", "--deep", undo)
	c.Check(s.changesAsked(), check.HasLen, 0)
	s.run(c, "verify", "lab/app:1")
	s.run(c, "migrate", "--rollback", undo)
	c.Check(s.properties(c), check.Equals, original)
}
