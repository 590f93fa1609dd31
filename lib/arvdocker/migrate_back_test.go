// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

// unlinked stores an image with properties only.
func (s *migrateSuite) unlinked(c *check.C, hex string, properties attrs) string {
	var coll arvados.Collection
	c.Assert(s.admin.RequestAndDecode(&coll, "POST", "arvados/v1/collections", nil, attrs{"collection": attrs{
		"manifest_text": `. d41d8cd98f00b204e9800998ecf8427e+0 0:0:sha256\072` + strings.Repeat(hex, 64) + ".tar\n", "properties": properties,
	}}), check.IsNil)
	return coll.UUID
}

func (s *migrateSuite) TestToLinks(c *check.C) {
	dir := c.MkDir()
	first := s.unlinked(c, "a", attrs{keyMarker: "1", keyRepoTag: []string{"lab/app:1", "Lab/App:2"}})
	second := s.linked(c, 2, attrs{keyRepoTag: "lab/app:3"}, "lab/app:3")
	original := s.properties(c)

	dry := s.run(c, "migrate", "--to-links", "--dry-run")
	c.Check(s.links(c, first), check.HasLen, 0)
	report := filepath.Join(dir, "report")
	wet := s.run(c, "migrate", "--to-links", "--report", report, "--resume", filepath.Join(dir, "resume"))
	lines, err := os.ReadFile(report)
	c.Assert(err, check.IsNil)
	c.Check(string(lines), check.Matches, `(?s).*"collection":"`+first+`","owner":"`+s.owner+
		`","action":"written","links":\[\{"uuid":"[^"]*","class":"docker_image_hash","name":"sha256:a{64}"\},\{.*"name":"lab/app:1"\}\],"cases":\[\{"kind":"bad-name",.*`)
	c.Check(s.links(c, first), check.DeepEquals, []string{linkHash + " sha256:" + strings.Repeat("a", 64), linkName + " lab/app:1"})
	c.Check(s.links(c, second), check.HasLen, 2)
	c.Check(s.properties(c), check.Equals, original)
	var list arvados.LinkList
	c.Assert(s.admin.RequestAndDecode(&list, "GET", "arvados/v1/links", nil, attrs{"filters": [][]string{{"head_uuid", "=", first}}}), check.IsNil)
	for _, link := range list.Items {
		c.Check(link.OwnerUUID, check.Equals, s.owner)
	}

	s.asked()
	again := s.run(c, "migrate", "--to-links")
	for _, request := range s.asked() {
		c.Check(strings.Contains(request, "POST"), check.Equals, false)
	}
	golden(c, "migrate_back", "# --dry-run\n", dry.out, "# --to-links\n", wet.out, "# again\n", again.out)
}

func (s *migrateSuite) TestToLinksRefusedCalls(c *check.C) {
	other := filepath.Join(c.MkDir(), "other")
	c.Assert(os.WriteFile(other, []byte(`{"server":"`+s.user.APIHost+`","after":"zzzzz-4zz18-000000000000001"}`), 0600), check.IsNil)
	for args, want := range map[string]string{
		"--to-links --own-names-only":  "--own-names-only: it has no meaning with --to-links",
		"--to-links --rollback-file=x": "--rollback-file: it has no meaning with --to-links",
		"--to-links --verify":          "--to-links: it has no meaning with --verify",
		"--to-links --rollback":        "--to-links: it has no meaning with --rollback",
		"--to-links --resume=" + other: "--resume: .*other is that of a run in the other direction .*",
	} {
		a := s.callWith(c, call{}, append([]string{"migrate"}, strings.Fields(args)...)...)
		c.Check(a.code, check.Equals, 1)
		c.Check(a.err, check.Matches, `(?s)arv-docker: .*`+want+`.*`, check.Commentf("%s", args))
	}
}
