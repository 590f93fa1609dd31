// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

type rollbackSuite struct{ ctx context.Context }

var _ = check.Suite(&rollbackSuite{ctx: context.Background()})

// What somebody has changed since stays; the rest gets what it had.
func (t *rollbackSuite) TestFrom(c *check.C) {
	for _, trial := range []struct{ before, after, now, want, kept string }{
		{`{}`, `{"a":"1"}`, `{"a":"1"}`, `{}`, ""},
		{`{"x":12345678901234567890,"y":1.50}`, `{"a":"1","x":12345678901234567890,"y":1.50}`, `{"y":1.50,"x":12345678901234567890,"a":"1"}`, `{"x":12345678901234567890,"y":1.50}`, ""},
		{`{"n":null}`, `{"n":"name:1"}`, `{"n":"name:1"}`, `{"n":null}`, ""},
		{`{"n":"a"}`, `{"n":["b","a"],"m":"1"}`, `{"n":["b","a"],"m":"1","mine":true}`, `{"mine":true,"n":"a"}`, ""},
		{`{"n":"a"}`, `{"n":["b","a"],"m":"1"}`, `{"n":["c","b","a"],"m":"1"}`, `{"n":["c","b","a"]}`, "n"},
		{`{"n":"a"}`, `{"n":["b","a"],"m":"1"}`, `{"m":"1"}`, `{}`, "n"},
		{`{"n":"a"}`, `{"n":["b","a"]}`, `{"n":"a"}`, ``, ""},
		{`{"n":"a"}`, `{"n":["b","a"],"m":"1"}`, `{"n":"a","mine":1}`, ``, ""},
		{`null`, `{"m":"1"}`, `{"m":"1"}`, `null`, ""},
		// Keys that were taken away, as those that a strict vocabulary refuses.
		{`{"h":"1"}`, `{"arv:h":"1"}`, `{"arv:h":"1"}`, `{"h":"1"}`, ""},
		{`{"h":"1"}`, `{"arv:h":"1"}`, `{"arv:h":"1","mine":true}`, `{"h":"1","mine":true}`, ""},
		{`{"h":"1"}`, `{"arv:h":"1"}`, `{"arv:h":"2"}`, `{"arv:h":"2","h":"1"}`, "arv:h"},
		{`{"h":"1"}`, `{"arv:h":"1"}`, `{"arv:h":"1","h":"2"}`, `{"h":"2"}`, "h"},
		{`{"h":"1"}`, `{"arv:h":"1"}`, `{"h":"1","mine":true}`, ``, ""},
		{`{"h":null}`, `{"arv:h":"1"}`, `{"arv:h":"1","mine":true}`, `{"h":null,"mine":true}`, ""},
		{`{"h":"1"}`, `{"arv:h":"1"}`, `null`, `{"h":"1"}`, ""},
		{`null`, `{"m":"1"}`, `{"m":"1","mine":true}`, `{"mine":true}`, ""},
	} {
		var coll Collection
		var err error
		coll.Properties, err = decode(json.RawMessage(trial.now))
		c.Assert(err, check.IsNil)
		u := Undo{Before: json.RawMessage(trial.before), After: json.RawMessage(trial.after)}
		got, kept, err := u.from(coll)
		c.Assert(err, check.IsNil)
		c.Check(string(got), check.Equals, trial.want, check.Commentf("%v", trial))
		c.Check(strings.Join(kept, ","), check.Equals, trial.kept, check.Commentf("%v", trial))
	}
}

// Two changes of one collection are undone in their order, and a collection that is
// gone is no matter.
func (t *rollbackSuite) TestOrder(c *check.C) {
	s := &server{}
	uuid := s.image(alice, 1, record{"n": "three"})
	file := rollbackFile(c)
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	c.Assert(file.add(Undo{uuid, raw(`{"n":"one"}`), raw(`{"n":"two"}`)}, Undo{uuid, raw(`{"n":"two"}`), raw(`{"n":"three"}`)},
		Undo{"zzzzz-4zz18-gone00000000000", raw(`{}`), raw(`{"n":"x"}`)}), check.IsNil)
	var rows []Undone
	r := &Rollback{Store: ByAPI(&view{server: s}, 0), Path: closed(c, file), Report: func(u Undone) error {
		rows = append(rows, u)
		return nil
	}}
	summary, err := r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(s.get(uuid)["properties"], check.DeepEquals, record{"n": "one"})
	c.Check(summary, check.DeepEquals, Summary{Heads: 3, Written: 2, Left: 1, Cases: map[Kind]int{GoneHead: 1}})
	c.Check(rows, check.HasLen, 3)
	// Again, there is nothing to do, and nobody has changed anything since.
	rows = nil
	summary, err = r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(summary.Written, check.Equals, 0)
	for _, row := range rows {
		c.Check(row.Kept, check.HasLen, 0)
	}
	// This was somebody else.
	s.get(uuid)["properties"] = record{"n": "four"}
	rows = nil
	_, err = r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(rows[1], check.DeepEquals, Undone{Collection: uuid, Action: Unchanged, Kept: []string{"n"}})

	s.refuse = func(method, _ string) error {
		if method == "PATCH" {
			return refusal(422, "frozen")
		}
		return nil
	}
	s.get(uuid)["properties"] = record{"n": "two"}
	summary, err = r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(summary.Failed, check.Equals, 1)
	c.Check(summary.LastFailure, check.Matches, uuid+": .*frozen")
}

// noManifests is a server that refuses to give them.
type noManifests struct{ *view }

func (a noManifests) RequestAndDecodeContext(ctx context.Context, dst interface{}, method, path string, body io.Reader, params interface{}) error {
	if list, ok := params.(arvados.ResourceListParams); ok && slices.Contains(list.Select, "manifest_text") {
		return refusal(500, "too much")
	}
	return a.view.RequestAndDecodeContext(ctx, dst, method, path, body, params)
}

// Nothing is asked for that undoing does not take.
func (t *rollbackSuite) TestNoManifests(c *check.C) {
	s := &server{}
	uuid := s.image(alice, 1, record{"n": "two"})
	file := rollbackFile(c)
	c.Assert(file.add(Undo{uuid, json.RawMessage(`{"n":"one"}`), json.RawMessage(`{"n":"two"}`)}), check.IsNil)
	summary, err := (&Rollback{Store: ByAPI(noManifests{&view{server: s}}, 0), Path: closed(c, file)}).Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(summary.Written, check.Equals, 1)
	c.Check(s.get(uuid)["properties"], check.DeepEquals, record{"n": "one"})
}

// A strict vocabulary has made the migration take keys away. They come back, also
// where somebody has changed something else meanwhile.
func (t *rollbackSuite) TestTwins(c *check.C) {
	s := &server{strict: true}
	plain := func() record {
		return record{"docker-image-hash": "sha256:" + hexOf(1), keyTimestamp: "2023-01-01T00:00:00Z", "mine": "1"}
	}
	uuid := s.image(alice, 1, plain())
	s.link(alice, className, "lab/app:1", uuid, made)
	file := rollbackFile(c)
	_, err := (&Migration{Store: ByAPI(&view{server: s}, 0), Rollback: file}).Run(t.ctx)
	c.Assert(err, check.IsNil)
	migrated := s.get(uuid)["properties"].(record)
	c.Check(migrated[twin+keyHash], check.Equals, "sha256:"+hexOf(1))
	c.Check(migrated["docker-image-hash"], check.IsNil)
	migrated["mine"] = "2"
	r := &Rollback{Store: ByAPI(&view{server: s}, 0), Path: closed(c, file)}
	// As long as they are refused, all else is undone.
	summary, err := r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(summary.Failed, check.Equals, 1)
	c.Check(s.get(uuid)["properties"], check.DeepEquals, record{twin + keyHash: "sha256:" + hexOf(1), twin + keyTimestamp: "2023-01-01T00:00:00Z", "mine": "2"})
	s.strict = false
	_, err = r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	want := plain()
	want["mine"] = "2"
	c.Check(s.get(uuid)["properties"], check.DeepEquals, want)
}

// Of several files the newest is undone first. In another order it takes one more
// round, of which the report tells.
func (t *rollbackSuite) TestSeveralFiles(c *check.C) {
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	for _, trial := range []struct {
		order []int
		kept  []string // for each of the order
	}{
		{[]int{1, 0}, []string{"", ""}},
		{[]int{0, 1, 0}, []string{"n", "", ""}},
	} {
		s := &server{}
		uuid := s.image(alice, 1, record{"n": []interface{}{"b", "a"}, "m": "1"})
		var paths []string
		for _, u := range []Undo{{uuid, raw(`{}`), raw(`{"n":"a","m":"1"}`)}, {uuid, raw(`{"n":"a","m":"1"}`), raw(`{"n":["b","a"],"m":"1"}`)}} {
			file := rollbackFile(c)
			c.Assert(file.add(u), check.IsNil)
			paths = append(paths, closed(c, file))
		}
		var kept []string
		for _, n := range trial.order {
			_, err := (&Rollback{Store: ByAPI(&view{server: s}, 0), Path: paths[n], Report: func(u Undone) error {
				kept = append(kept, strings.Join(u.Kept, " "))
				return nil
			}}).Run(t.ctx)
			c.Assert(err, check.IsNil)
		}
		c.Check(kept, check.DeepEquals, trial.kept)
		c.Check(s.get(uuid)["properties"], check.DeepEquals, record{})
	}
}

// What comes back from the trash is as it was migrated, so that is told apart from
// what is gone.
func (t *rollbackSuite) TestTrash(c *check.C) {
	s := &server{}
	uuids := []string{s.image(alice, 1, record{"n": "two"}), s.image(alice, 2, record{"n": "two"}), s.image(alice, 3, record{"n": "two"})}
	s.get(uuids[0])["is_trashed"] = true
	s.get(uuids[1])["current_version_uuid"] = uuids[2]
	file := rollbackFile(c)
	for _, uuid := range append(uuids, "zzzzz-4zz18-gone00000000000") {
		c.Assert(file.add(Undo{uuid, json.RawMessage(`{"n":"one"}`), json.RawMessage(`{"n":"two"}`)}), check.IsNil)
	}
	r := &Rollback{Store: ByAPI(&view{server: s}, 0), Path: closed(c, file)}
	summary, err := r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(summary, check.DeepEquals, Summary{Heads: 4, Written: 1, Left: 3, Cases: map[Kind]int{TrashedHead: 1, OldHead: 1, GoneHead: 1}})
	s.get(uuids[0])["is_trashed"] = false
	summary, err = r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(summary.Written, check.Equals, 1)
	c.Check(s.get(uuids[0])["properties"], check.DeepEquals, record{"n": "one"})
}

// A dry run counts and reports what undoing would, also of several changes of one
// collection, and changes nothing.
func (t *rollbackSuite) TestDryRun(c *check.C) {
	icy := "zzzzz-j7d0g-frozen000000000"
	s := &server{groups: []record{{"uuid": icy, "can_write": false, "owner_uuid": icy}}}
	twice, mine, frozen := s.image(alice, 1, record{"n": "three"}), s.image(alice, 2, record{"n": "four", "m": "1"}), s.image(icy, 3, record{"n": "two"})
	file := rollbackFile(c)
	raw := func(text string) json.RawMessage { return json.RawMessage(text) }
	c.Assert(file.add(Undo{twice, raw(`{"n":"one"}`), raw(`{"n":"two"}`)}, Undo{twice, raw(`{"n":"two"}`), raw(`{"n":"three"}`)},
		Undo{mine, raw(`{}`), raw(`{"n":"two","m":"1"}`)}, Undo{frozen, raw(`{"n":"one"}`), raw(`{"n":"two"}`)}), check.IsNil)
	var rows []Undone
	r := &Rollback{Store: ByAPI(&view{server: s}, 0), Path: closed(c, file), DryRun: true, Report: func(u Undone) error {
		rows = append(rows, u)
		return nil
	}}
	before := s.properties(c)
	dry, err := r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(s.properties(c), check.Equals, before)
	c.Check(s.writes, check.Equals, 0)
	c.Check(dry, check.DeepEquals, Summary{Heads: 4, Written: 3, Left: 1, Cases: map[Kind]int{Frozen: 1}})
	would := rows
	r.DryRun, rows = false, nil
	wet, err := r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(wet, check.DeepEquals, dry)
	for i := range would {
		if would[i].Action == WouldWrite {
			would[i].Action = Written
		}
	}
	c.Check(rows, check.DeepEquals, would)
	c.Check(rows[1], check.DeepEquals, Undone{Collection: mine, Action: Written, Kept: []string{"n"}})
}

// Whoever changes a collection all the time has the last word, and that of a frozen
// project is left.
func (t *rollbackSuite) TestNotUndone(c *check.C) {
	icy := "zzzzz-j7d0g-frozen000000000"
	s := &server{groups: []record{{"uuid": icy, "can_write": false, "owner_uuid": icy}}}
	busy, frozen, usual := s.image(alice, 1, record{"n": "two"}), s.image(icy, 2, record{"n": "two"}), s.image(alice, 3, record{"n": "two"})
	file := rollbackFile(c)
	for _, uuid := range []string{busy, frozen, usual} {
		c.Assert(file.add(Undo{uuid, json.RawMessage(`{"n":"one"}`), json.RawMessage(`{"n":"two"}`)}), check.IsNil)
	}
	times := 0
	store := &Interrupted{Store: ByAPI(&view{server: s}, 0), Before: func([]Planned) {
		times++
		s.get(busy)["properties"].(record)["mine"] = fmt.Sprint(times)
	}}
	rows := map[string]Undone{}
	summary, err := (&Rollback{Store: store, Path: closed(c, file), Report: func(u Undone) error {
		rows[u.Collection] = u
		return nil
	}}).Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(times, check.Equals, attempts)
	c.Check(summary, check.DeepEquals, Summary{Heads: 3, Written: 1, Left: 1, Failed: 1, Cases: map[Kind]int{Frozen: 1}, LastFailure: busy + ": " + ErrChanged.Error()})
	c.Check(rows[busy], check.DeepEquals, Undone{Collection: busy, Action: Failed, Error: ErrChanged.Error()})
	c.Check(rows[frozen], check.DeepEquals, Undone{Collection: frozen, Action: Left, Why: Frozen})
	c.Check(s.get(busy)["properties"].(record)["n"], check.Equals, "two")
	c.Check(s.get(usual)["properties"], check.DeepEquals, record{"n": "one"})
}

// FuzzRollbackLine: whatever stands in a line, it is read or refused, and undoing
// it twice is undoing it once.
func FuzzRollbackLine(f *testing.F) {
	f.Add(`{"n":"a"}`, `{"n":["b","a"],"m":"1"}`, `{"n":["b","a"],"m":"1","mine":true}`)
	f.Add(`null`, `{}`, `{"x":1e400}`)
	f.Fuzz(func(t *testing.T, before, after, now string) {
		var coll Collection
		var err error
		if coll.Properties, err = decode(json.RawMessage(now)); err != nil {
			return
		}
		u := Undo{Before: json.RawMessage(before), After: json.RawMessage(after)}
		got, _, err := u.from(coll)
		if err != nil || got == nil {
			return
		}
		if coll.Properties, err = decode(got); err != nil {
			t.Fatal(err)
		}
		if again, _, err := u.from(coll); err != nil || again != nil && string(again) != before {
			t.Fatalf("%s, then %s (%v)", got, again, err)
		}
	})
}

// FuzzReadName: every link's name is a name, a digest or special, and a name is
// read back as itself.
func FuzzReadName(f *testing.F) {
	for _, name := range someNames {
		f.Add(name)
	}
	own := "sha256:" + hexOf(1)
	f.Fuzz(func(t *testing.T, link string) {
		name, digest, kind := readName(link, own)
		if name != "" && digest != "" || name == "" && digest == "" && kind == "" {
			t.Fatalf("%q: %q, %q, %q", link, name, digest, kind)
		}
		if name != "" {
			if again, _, kind := readName(name, own); again != name || kind != "" {
				t.Fatalf("%q: %q, then %q (%s)", link, name, again, kind)
			}
		}
	})
}
