// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

type unlinkSuite struct {
	fixture
	path string // of the report
}

var _ = check.Suite(&unlinkSuite{})

// SetUpTest makes images, one with links already, and gives all of them their links.
func (t *unlinkSuite) SetUpTest(c *check.C) {
	t.fixture.SetUpTest(c)
	t.path = filepath.Join(c.MkDir(), "report")
	for n := range 6 {
		t.s.image(alice, n, record{keyNames: "lab/app:1"})
	}
	first := t.s.collections[0].text("uuid")
	t.s.link(alice, className, "lab/app:1", first, nil)
	t.s.link(bob, className, "lab/app:1", first, nil)
	l := &ToLinks{API: &view{server: t.s}, Report: func(row Row) error {
		text, err := json.Marshal(row)
		c.Assert(err, check.IsNil)
		t.add(c, string(text)+"\n")
		return nil
	}}
	summary, err := l.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Assert(summary.NewLinks, check.Equals, 11)
	c.Assert(t.s.links, check.HasLen, 13)
}

// add adds to the report.
func (t *unlinkSuite) add(c *check.C, text string) {
	file, err := os.OpenFile(t.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0600)
	c.Assert(err, check.IsNil)
	_, err = file.WriteString(text)
	c.Assert(err, check.IsNil)
	c.Assert(file.Close(), check.IsNil)
}

// unlink does it, and returns the lines of its report by action.
func (t *unlinkSuite) unlink(c *check.C, u *Unlink) (Summary, map[Action][]Unlinked) {
	rows := map[Action][]Unlinked{}
	u.API, u.Path = &view{server: t.s}, t.path
	u.Report = func(row Unlinked) error {
		rows[row.Action] = append(rows[row.Action], row)
		return nil
	}
	summary, err := u.Run(t.ctx)
	c.Assert(err, check.IsNil)
	return summary, rows
}

// Those links go that were made, and no others.
func (t *unlinkSuite) TestUnlink(c *check.C) {
	properties := t.s.properties(c)
	all := slices.Clone(t.s.links)
	t.add(c, `{"collection":"zzzzz-4zz`) // it was stopped while it wrote
	dry, rows := t.unlink(c, &Unlink{DryRun: true})
	c.Check(t.s.links, check.DeepEquals, all)
	c.Check(rows[WouldDelete], check.HasLen, 11)
	summary, rows := t.unlink(c, &Unlink{})
	c.Check(summary, check.DeepEquals, Summary{Links: 11, Written: 11, Cases: map[Kind]int{}})
	c.Check(summary, check.DeepEquals, dry)
	c.Check(rows[Deleted], check.HasLen, 11)
	c.Check(t.s.links, check.DeepEquals, all[:2])
	c.Check(t.s.properties(c), check.Equals, properties)
	again, _ := t.unlink(c, &Unlink{})
	c.Check(again, check.DeepEquals, Summary{Links: 11, Unchanged: 11, Cases: map[Kind]int{}})
	// Nothing is in the way of having them made again.
	_, err := (&ToLinks{API: &view{server: t.s}}).Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(t.s.links, check.HasLen, 13)
}

// Links that somebody has changed stay, whatever it is.
func (t *unlinkSuite) TestChanged(c *check.C) {
	for i, change := range []record{{"name": "lab/mine:1"}, {"link_class": "star"}, {"head_uuid": project}} {
		for attr, value := range change {
			t.s.links[4+i][attr] = value
		}
	}
	t.s.links[8]["properties"] = record{"mine": "1"} // it says the same still
	summary, rows := t.unlink(c, &Unlink{})
	c.Check(summary.Left, check.Equals, 3)
	c.Check(summary.Written, check.Equals, 8)
	c.Check(summary.Cases, check.DeepEquals, map[Kind]int{ChangedLink: 3})
	c.Check(rows[Left][0].Why, check.Equals, ChangedLink)
	c.Check(t.s.links, check.HasLen, 5)
}

// Lines that tell of a link twice, of none, or of links that a dry run would make are
// no obstacle. UUIDs that are none of links lead nowhere.
func (t *unlinkSuite) TestLines(c *check.C) {
	text, err := os.ReadFile(t.path)
	c.Assert(err, check.IsNil)
	t.add(c, string(text))
	t.add(c, `{"collection":"x","action":"written","names":["lab/app:1"]}
{"collection":"x","action":"would-write","links":[{"class":"docker_image_hash","name":"sha256:1"}]}
{"collection":"x","action":"written","links":[{"uuid":"../users/x","class":"a","name":"b"},{"uuid":"`+t.s.collections[0].text("uuid")+`","class":"a","name":"b"}]}
`)
	t.add(c, `{"collection":"zzzzz-4zz18-0`+"\n"+string(text)) // it was stopped, and has gone on
	summary, _ := t.unlink(c, &Unlink{})
	c.Check(summary.Written, check.Equals, 11)
	c.Check(summary.Unchanged, check.Equals, 22)
	c.Check(summary.Cases, check.DeepEquals, map[Kind]int{TornLine: 1})
	c.Check(t.s.collections, check.HasLen, 6)
}

// Refusals and failures stop nothing, trouble does.
func (t *unlinkSuite) TestTrouble(c *check.C) {
	var answers []error
	t.s.refuse = func(method, _ string) error {
		if method != "DELETE" || len(answers) == 0 {
			return nil
		}
		answer := answers[0]
		answers = answers[1:]
		return answer
	}
	answers = []error{errors.New("no route to host")}
	_, err := (&Unlink{API: &view{server: t.s}, Path: t.path, Parallel: 1}).Run(t.ctx)
	c.Check(err, check.ErrorMatches, `api: delete link zzzzz-o0j2j-.{15}: no route to host`)
	answers = slices.Repeat(trouble[:1], longestStreak)
	_, err = (&Unlink{API: &view{server: t.s}, Path: t.path, Parallel: 1}).Run(t.ctx)
	c.Check(err, check.ErrorMatches, `api: write for the 10th time in a row, .*`)
	answers = []error{refusal(403, "no"), trouble[1]}
	summary, rows := t.unlink(c, &Unlink{Rate: 1000})
	c.Check(summary.Failed, check.Equals, 2)
	c.Check(summary.Written, check.Equals, 9)
	for _, row := range rows[Failed] {
		c.Check(row.Error, check.Matches, ".*(no|busy)")
	}
	c.Check(summary.LastFailure, check.Matches, "zzzzz-o0j2j-.*: .*(no|busy)")
	stopped := &Unlink{API: &view{server: t.s}, Path: t.path, Report: func(Unlinked) error { return errStopped }}
	_, err = stopped.Run(t.ctx)
	c.Check(err, check.Equals, errStopped)
}

// What is no such report deletes nothing.
func (t *unlinkSuite) TestOtherFiles(c *check.C) {
	for _, text := range []string{"no JSON", "{}", `{"collection":"zzzzz-4zz18-000000000000000","before":{},"after":{}}`, `{"name":"lab/app:1","reason":"spelling"}`} {
		path := filepath.Join(c.MkDir(), "other")
		c.Assert(os.WriteFile(path, []byte(text+"\n"), 0600), check.IsNil)
		_, err := (&Unlink{API: &view{server: t.s}, Path: path}).Run(t.ctx)
		c.Check(err, check.ErrorMatches, `request: read report .*other: .* \(name the report of migrate --to-links or sync\)`)
		_, err = (&Unlink{Path: path + "x"}).Run(t.ctx)
		c.Check(err, check.ErrorMatches, `request: open report: .*no such file.* \(name the report of .*\)`)
		c.Check(fault.SideOf(err), check.Equals, fault.Request)
		c.Check(strings.Contains(err.Error(), path), check.Equals, true)
	}
	c.Check(t.s.links, check.HasLen, 13)
}
