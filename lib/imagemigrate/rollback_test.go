// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

func (t *rollbackSuite) TestBadFiles(c *check.C) {
	path := filepath.Join(c.MkDir(), "rollback")
	for _, text := range []string{"no JSON\n", "{}\n", `{"collection":"../users/x","before":{},"after":{}}` + "\n"} {
		c.Assert(os.WriteFile(path, []byte(text), 0600), check.IsNil)
		_, err := (&Rollback{Store: ByAPI(&view{server: &server{}}, 0), Path: path}).Run(t.ctx)
		c.Check(err, check.ErrorMatches, `request: read rollback file .*rollback: line 1: .* \(it must be as arv-docker has written it\)`)
		file, err := OpenRollback(path)
		c.Assert(err, check.IsNil)
		c.Check(file.Close(), check.IsNil)
		c.Check(file.add(Undo{}), check.ErrorMatches, `request: write rollback file: .*`)
	}
	_, err := OpenRollback(filepath.Join(path, "x"))
	c.Check(err, check.ErrorMatches, `request: open rollback file: .* \(name a file that can be written\)`)
	_, err = (&Rollback{Path: path + "x"}).Run(t.ctx)
	c.Check(err, check.ErrorMatches, `request: open rollback file: .*no such file.* \(name the file that .*\)`)
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

// A line that is wrong is found before anything is undone.
func (t *rollbackSuite) TestBadLine(c *check.C) {
	s := &server{}
	uuid := s.image(alice, 1, record{"n": "two"})
	path := filepath.Join(c.MkDir(), "rollback")
	good := `{"collection":"` + uuid + `","before":{"n":"one"},"after":{"n":"two"}}` + "\n"
	c.Assert(os.WriteFile(path, []byte("{}\n"+good+good), 0600), check.IsNil)
	_, err := (&Rollback{Store: ByAPI(&view{server: s}, 0), Path: path}).Run(t.ctx)
	c.Check(err, check.ErrorMatches, `request: read rollback file .*: line 1: "" is not the UUID of a collection .*`)
	c.Check(s.asked, check.Equals, 0)
}

// Two do not write to one file, and nothing is undone that is being written. Who
// only reads takes nothing away.
func (t *rollbackSuite) TestLocks(c *check.C) {
	path := filepath.Join(c.MkDir(), "rollback")
	file, err := OpenRollback(path)
	c.Assert(err, check.IsNil)
	c.Assert(file.add(Undo{"zzzzz-4zz18-gone00000000000", json.RawMessage(`{}`), json.RawMessage(`{}`)}), check.IsNil)
	_, err = file.file.WriteString(`{"collection":`)
	c.Assert(err, check.IsNil)
	_, err = OpenRollback(path)
	c.Check(err, check.ErrorMatches, `request: open rollback file .*: another arv-docker is at work with it \(.*\)`)
	r := &Rollback{Store: ByAPI(&view{server: &server{}}, 0), Path: path}
	_, err = r.Run(t.ctx)
	c.Check(err, check.ErrorMatches, `request: open rollback file .*: another arv-docker is at work with it \(stop that, .*\)`)
	before, err := os.ReadFile(path)
	c.Assert(err, check.IsNil)
	c.Assert(file.Close(), check.IsNil)
	summary, err := r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(summary.Left, check.Equals, 1)
	after, err := os.ReadFile(path)
	c.Assert(err, check.IsNil)
	c.Check(string(after), check.Equals, string(before))

	position := filepath.Join(c.MkDir(), "position")
	held, err := LockPosition(position)
	c.Assert(err, check.IsNil)
	c.Assert(Position{}.Save(position), check.IsNil)
	_, err = LockPosition(position)
	c.Check(err, check.ErrorMatches, `request: lock resume file .*position: another arv-docker is at work with it \(.*\)`)
	c.Assert(held.Close(), check.IsNil)
	held, err = LockPosition(position)
	c.Assert(err, check.IsNil)
	c.Check(held.Close(), check.IsNil)
	_, err = LockPosition(filepath.Join(position, "x"))
	c.Check(err, check.ErrorMatches, `request: lock resume file .*`)
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
