// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

type toLinksSuite struct{ fixture }

var _ = check.Suite(&toLinksSuite{})

// way is ToLinks for the test's server.
func (t *toLinksSuite) way() *ToLinks {
	return &ToLinks{API: &view{server: t.s}, Report: t.report}
}

func (t *toLinksSuite) run(c *check.C, l *ToLinks) Summary {
	summary, err := l.Run(t.ctx)
	c.Assert(err, check.IsNil)
	return summary
}

// linksOf are the links to a collection in short: owner, class, name, time.
func (s *server) linksOf(uuid string) (all []string) {
	for _, link := range s.links {
		if link["head_uuid"] == uuid {
			properties := link["properties"].(record)
			all = append(all, fmt.Sprint(link["owner_uuid"], " ", link["link_class"], " ", link["name"], " ", properties[linkTime]))
		}
	}
	slices.Sort(all)
	return all
}

// Each kind of properties gives just the links that lookups need.
func (t *toLinksSuite) TestLinks(c *check.C) {
	const hash, at = "docker_image_hash sha256:", " 2024-05-01T00:00:00Z"
	time := "2024-05-01T00:00:00Z"
	name := func(name string) string { return alice + " docker_image_repo+tag " + name }
	for i, trial := range []struct {
		comment    string
		files      []string
		properties record
		links      []string // names that owner has given
		by         string   // who has
		want       []string // links that are written
		action     Action
		kinds      []Kind
	}{
		{comment: "as programs here write it", properties: record{keyHash: "sha256:" + hexOf(1), keyNames: "lab/app:1", keyTimestamp: time, "arv:docker-image": "1"},
			want: []string{alice + " " + hash + hexOf(1) + at, name("lab/app:1" + at)}, action: Written},
		{comment: "several names, of which one is a link", properties: record{keyNames: []string{"lab/app:1", "lab/app:2"}}, links: []string{"lab/app:2"}, by: alice,
			want: []string{alice + " " + hash + hexOf(1) + " <nil>", name("lab/app:1 <nil>")}, action: Written},
		{comment: "a link of somebody else", properties: record{keyNames: "lab/app:1"}, links: []string{"lab/app:1", "sha256:" + hexOf(1)}, by: bob,
			want: []string{alice + " " + hash + hexOf(1) + " <nil>", name("lab/app:1 <nil>")}, action: Written},
		{comment: "no names", properties: record{keyHash: "sha256:" + hexOf(1)}, want: []string{alice + " " + hash + hexOf(1) + " <nil>"}, action: Written},
		{comment: "twins", properties: record{"arv:docker-image": "1", twin + keyHash: "sha256:" + hexOf(1), twin + keyTimestamp: time, keyNames: "lab/app:1"},
			want: []string{alice + " " + hash + hexOf(1) + at, name("lab/app:1" + at)}, action: Written},
		{comment: "no names of docker's", properties: record{keyNames: []string{"Lab/App:1", "docker.io/lab/app:1", "lab/app", "lab/app@sha256:" + hexOf(3), "sha256:" + hexOf(1)}},
			want: []string{alice + " " + hash + hexOf(1) + " <nil>"}, action: Written, kinds: []Kind{BadName, OtherSpelling, NoTag, DigestName, HashAsName}},
		{comment: "null", properties: record{keyNames: nil}, want: []string{alice + " " + hash + hexOf(1) + " <nil>"}, action: Written},
		{comment: "all there", properties: record{keyNames: "lab/app:1"}, links: []string{"lab/app:1", "sha256:" + hexOf(1)}, by: alice, action: Unchanged},
		{comment: "no image", files: []string{"README"}, properties: record{keyNames: "lab/app:1"}, action: Left, kinds: []Kind{NotAnImage}},
		{comment: "changed", properties: record{keyNames: "lab/app:1", "arv:docker-image-pdh": "d41d8cd98f00b204e9800998ecf8427e+0"}, action: Left, kinds: []Kind{CannotPass}},
		{comment: "no property of an image", properties: record{"type": "output"}},
	} {
		t.SetUpTest(c)
		if trial.files == nil {
			trial.files = []string{"sha256:" + hexOf(1) + ".tar"}
		}
		uuid := t.s.collection(alice, manifestOf(trial.files...), trial.properties)
		for _, link := range trial.links {
			class := className
			if strings.HasPrefix(link, "sha256:") {
				class = classHash
			}
			t.s.link(trial.by, class, link, uuid, nil)
		}
		before := t.s.linksOf(uuid)
		properties := t.s.properties(c)
		comment := check.Commentf("%d: %s", i, trial.comment)

		l := t.way()
		l.DryRun = true
		dry := t.run(c, l)
		c.Check(t.s.writes, check.Equals, 0, comment)
		if trial.action == Written {
			c.Check(t.rows[uuid].Action, check.Equals, WouldWrite, comment)
		}
		c.Check(t.rows[uuid].Links, check.HasLen, len(trial.want), comment)
		wet := t.run(c, t.way())
		c.Check(wet, check.DeepEquals, dry, comment)
		c.Check(wet.NewLinks, check.Equals, len(trial.want), comment)
		c.Check(t.rows[uuid].Action, check.Equals, trial.action, comment)
		var kinds []Kind
		for _, special := range t.rows[uuid].Cases {
			kinds = append(kinds, special.Kind)
		}
		c.Check(kinds, check.DeepEquals, trial.kinds, comment)
		want := append(before, trial.want...)
		slices.Sort(want)
		c.Check(t.s.linksOf(uuid), check.DeepEquals, want, comment)
		for _, link := range t.rows[uuid].Links {
			c.Check(link.UUID, check.Matches, "zzzzz-o0j2j-.*", comment)
		}
		c.Check(t.s.properties(c), check.Equals, properties, comment)
		t.run(c, t.way())
		c.Check(t.s.writes, check.Equals, len(trial.want), comment)
	}
}

// Frozen projects get nothing; one refusal or failure does not stop the rest, trouble
// does.
func (t *toLinksSuite) TestRefusals(c *check.C) {
	icy := "zzzzz-j7d0g-frozen000000000"
	t.s.groups = append(t.s.groups, record{"uuid": icy, "can_write": false, "owner_uuid": icy})
	frozen := t.s.image(icy, 1, record{keyNames: "lab/app:1"})
	refused, last := t.s.image(bob, 2, record{keyNames: "lab/app:2"}), t.s.image(alice, 3, record{keyNames: "lab/app:3"})
	var answer error
	t.s.refuse = func(method, path string) error {
		if method == "POST" && answer != nil {
			return answer
		}
		return nil
	}
	for _, answer = range []error{refusal(429, "busy"), refusal(401, "who?"), errors.New("no route to host")} {
		_, err := t.way().Run(t.ctx)
		c.Check(fault.SideOf(err), check.Equals, fault.API)
		c.Check(fault.Transient(err), check.Equals, !strings.Contains(answer.Error(), "401"))
	}
	var summary Summary
	for _, answer = range []error{refusal(403, "no"), refusal(503, "no")} {
		summary = t.run(c, t.way())
		c.Check(summary.Failed, check.Equals, 2)
		c.Check(summary.Left, check.Equals, 1)
		c.Check(t.rows[refused].Error, check.Matches, fmt.Sprintf(".*%d .*no", answer.(*arvados.TransactionError).StatusCode))
	}
	c.Check(t.rows[frozen].Cases, check.DeepEquals, []Case{{Kind: Frozen}})
	answer = nil
	summary = t.run(c, t.way())
	c.Check(summary.Written, check.Equals, 2)
	c.Check(t.s.linksOf(last), check.HasLen, 2)
	c.Check(t.s.linksOf(frozen), check.HasLen, 0)
}

// Wherever it is stopped, it ends as if it had not been, with each link once.
func (t *toLinksSuite) TestStoppedAnywhere(c *check.C) {
	filled := func() *server {
		s := many(2)
		m := &Migration{Store: ByAPI(&view{server: s}, 0), Rollback: rollbackFile(c)}
		_, err := m.Run(t.ctx)
		c.Assert(err, check.IsNil)
		s.links, s.asked, s.widest, s.page = nil, 0, 0, 7
		return s
	}
	all := func(s *server) (all []string) {
		for _, coll := range s.collections {
			all = append(all, s.linksOf(coll.text("uuid"))...)
		}
		return all
	}
	t.s = filled()
	summary := t.run(c, t.way())
	want, requests := all(t.s), t.s.asked
	c.Check(summary.NewLinks, check.Equals, len(want))
	c.Check(t.s.widest, check.Equals, 7)
	dir := c.MkDir()
	for stop := 1; stop < requests; stop += 1 + requests/25 {
		t.s = filled()
		resume := filepath.Join(dir, fmt.Sprint("resume", stop))
		for attempt, done := 0, false; !done; attempt++ {
			left := stop
			if attempt > 2 {
				left = requests
			}
			t.s.refuse = func(string, string) error {
				if left--; left < 0 {
					return errStopped
				}
				return nil
			}
			l := t.way()
			var err error
			l.Start, err = LoadPosition(resume)
			c.Assert(err, check.IsNil)
			l.Passed = func(p Position) error { return p.Save(resume) }
			_, err = l.Run(t.ctx)
			done = err == nil
			c.Assert(done || errors.Is(err, errStopped), check.Equals, true)
		}
		c.Assert(all(t.s), check.DeepEquals, want, check.Commentf("stopped after %d requests", stop))
	}
}

// After both ways, a lookup by links as API servers do it answers what one by
// properties does, but for what cannot be said by links.
func (t *toLinksSuite) TestLookups(c *check.C) {
	t.s.image(alice, 1, record{keyNames: []string{"lab/app:1", "lab/app:2"}, keyTimestamp: "2023-01-01T00:00:00Z"})
	t.s.image(alice, 2, record{keyNames: "lab/app:1", keyTimestamp: "2023-02-01T00:00:00Z"})
	t.s.image(bob, 3, record{keyNames: "registry.example:5000/app:1"})
	t.run(c, t.way())
	for _, name := range []string{"lab/app:1", "lab/app:2", "lab/app:3"} {
		found, err := dockerimage.Resolve(t.ctx, &view{server: t.s}, name, dockerimage.Policy{})
		old := byLinksOfOld(t.s, nil, name)
		c.Check(old == nil, check.Equals, errors.Is(err, dockerimage.ErrNotFound))
		if old != nil {
			c.Check(old["uuid"], check.Equals, found.UUID, check.Commentf("%s", name))
		}
	}
}
