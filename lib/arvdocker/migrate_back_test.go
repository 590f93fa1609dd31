// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

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

// What was written can be taken back by the report, from migrate and from sync.
func (s *migrateSuite) TestUnlink(c *check.C) {
	dir := c.MkDir()
	first := s.unlinked(c, "a", attrs{keyMarker: "1", keyRepoTag: []string{"lab/app:1", "lab/app:2"}})
	s.addLink(c, linkName, "lab/app:2", first, attrs{})
	report, undone := filepath.Join(dir, "report"), filepath.Join(dir, "undone")
	back := []string{"migrate", "--rollback", "--to-links", "--rollback-file", report}
	s.run(c, "migrate", "--to-links", "--report", report)
	c.Check(s.links(c, first), check.HasLen, 3)
	lines, err := os.ReadFile(report)
	c.Assert(err, check.IsNil)
	dry := s.run(c, append(back, "--dry-run")...)
	c.Check(s.links(c, first), check.HasLen, 3)
	wet := s.run(c, append(back, "--report", undone)...)
	c.Check(s.links(c, first), check.DeepEquals, []string{linkName + " lab/app:2"})
	told, err := os.ReadFile(undone)
	c.Assert(err, check.IsNil)
	c.Check(string(told), check.Matches, `(\{"link":"[^"]*","collection":"`+first+`","action":"deleted"\}\n){2}`)
	again := s.run(c, back...)
	golden(c, "migrate_unlink", "# --dry-run\n", dry.out, "# --rollback --to-links\n", wet.out, "# again\n", again.out)

	report = filepath.Join(dir, "synced")
	c.Assert(os.WriteFile(report, []byte(string(lines)+`{"collection":"zzz`), 0600), check.IsNil) // power has failed
	p := s.startSync(c, dir, "--report="+report)
	until(c, "links", func() bool { return len(s.links(c, first)) == 3 })
	until(c, "report", func() bool {
		lines, err := os.ReadFile(report)
		return err == nil && strings.Count(string(lines), `"class":"`+linkName+`","name":"lab/app:1"`) == 2
	})
	c.Assert(p.Process.Signal(syscall.SIGTERM), check.IsNil)
	c.Check(p.Wait(), check.IsNil)
	s.run(c, "migrate", "--rollback", "--to-links", "--rollback-file", report)
	c.Check(s.links(c, first), check.DeepEquals, []string{linkName + " lab/app:2"})

	// Refusals are told.
	s.run(c, "migrate", "--to-links", "--report", report)
	s.refuse = func(r *http.Request) int {
		if r.Method == http.MethodDelete {
			return http.StatusForbidden
		}
		return 0
	}
	a := s.callWith(c, call{}, "migrate", "--rollback", "--to-links", "--rollback-file", report, "--report=-")
	c.Check(a.code, check.Equals, 1)
	c.Check(a.out, check.Matches, `(\{"link":.*"action":"failed","error":".*403.*\}\n){2}`)
	c.Check(a.err, check.Matches, `arv-docker: api: change collections: 2 could not be changed, the last one .*\n`)
}

func (s *migrateSuite) TestToLinksRefusedCalls(c *check.C) {
	other := filepath.Join(c.MkDir(), "other")
	c.Assert(os.WriteFile(other, []byte(`{"server":"`+s.user.APIHost+`","after":"zzzzz-4zz18-000000000000001"}`+"\n"), 0600), check.IsNil)
	for args, want := range map[string]string{
		"--to-links --own-names-only":                              "--own-names-only: it has no meaning with --to-links",
		"--to-links --rollback-file=x":                             "--rollback-file: it has no meaning with --to-links",
		"--to-links --verify":                                      "--to-links: it has no meaning with --verify",
		"--to-links --rollback":                                    "--rollback-file: it is not given .name the report of migrate --to-links or sync.",
		"--to-links --rollback --rollback-file=" + other:           "read report .*other: it tells of no collection .name the report of .*",
		"--to-links --rollback --rollback-file=/x/y --report=/x/y": "--report: it is the file that is read",
		"--rollback --rollback-file=/x/y --report=/x/y":            "--report: it is the file that is read",
		"--to-links --rollback --sql=x":                            "--to-links: it has no meaning with --sql",
		"--to-links --resume=" + other:                             "--resume: .*other is that of a run in the other direction .*",
	} {
		a := s.callWith(c, call{}, append([]string{"migrate"}, strings.Fields(args)...)...)
		c.Check(a.code, check.Equals, 1)
		c.Check(a.err, check.Matches, `(?s)arv-docker: .*`+want+`.*`, check.Commentf("%s", args))
	}
}
