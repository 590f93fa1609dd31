// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	} {
		var coll collection
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
	r := &Rollback{API: &view{server: s}, File: file, Report: func(u Undone) error {
		rows = append(rows, u)
		return nil
	}}
	summary, err := r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(s.get(uuid)["properties"], check.DeepEquals, record{"n": "one"})
	c.Check(summary, check.DeepEquals, Summary{Heads: 3, Written: 2, Left: 1})
	c.Check(rows, check.HasLen, 3)
	// Again, there is nothing to do.
	summary, err = r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(summary.Written, check.Equals, 0)

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

func (t *rollbackSuite) TestBadFiles(c *check.C) {
	path := filepath.Join(c.MkDir(), "rollback")
	for _, text := range []string{"no JSON\n", "{}\n", `{"collection":"../users/x","before":{},"after":{}}` + "\n"} {
		c.Assert(os.WriteFile(path, []byte(text), 0600), check.IsNil)
		file, err := OpenRollback(path)
		c.Assert(err, check.IsNil)
		_, err = (&Rollback{API: &view{server: &server{}}, File: file}).Run(t.ctx)
		c.Check(err, check.ErrorMatches, `request: read rollback file line 1: .* \(it must be as arv-docker migrate has written it\)`)
		c.Check(file.Close(), check.IsNil)
		c.Check(file.add(Undo{}), check.ErrorMatches, `request: write rollback file: .*`)
	}
	_, err := OpenRollback(filepath.Join(path, "x"))
	c.Check(err, check.ErrorMatches, `request: open rollback file: .* \(name a file that can be written\)`)
}

// FuzzRollbackLine: whatever stands in a line, it is read or refused, and undoing
// it twice is undoing it once.
func FuzzRollbackLine(f *testing.F) {
	f.Add(`{"n":"a"}`, `{"n":["b","a"],"m":"1"}`, `{"n":["b","a"],"m":"1","mine":true}`)
	f.Add(`null`, `{}`, `{"x":1e400}`)
	f.Fuzz(func(t *testing.T, before, after, now string) {
		var coll collection
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
