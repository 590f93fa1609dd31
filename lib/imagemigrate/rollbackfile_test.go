// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"encoding/json"
	"os"
	"path/filepath"

	"gopkg.in/check.v1"
)

func (t *rollbackSuite) TestBadFiles(c *check.C) {
	path := filepath.Join(c.MkDir(), "rollback")
	for _, text := range []string{"no JSON\n", "{}\n", `{"collection":"../users/x","before":{},"after":{}}` + "\n",
		`{"collection":"zzzzz-4zz18-000000000000001","action":"written"}` + "\n"} {
		c.Assert(os.WriteFile(path, []byte(text), 0600), check.IsNil)
		_, err := (&Rollback{Store: ByAPI(&view{server: &server{}}, 0), Path: path}).Run(t.ctx)
		c.Check(err, check.ErrorMatches, `request: read rollback file .*rollback: line 1: .* \(it must be as arv-docker has written it\)`)
	}
	file := rollbackFile(c)
	c.Check(file.Close(), check.IsNil)
	c.Check(file.add(Undo{}), check.ErrorMatches, `request: write rollback file: .*`)
	_, err := OpenRollback(filepath.Join(path, "x"))
	c.Check(err, check.ErrorMatches, `request: open rollback file: .* \(name a file that can be written\)`)
	_, err = (&Rollback{Path: path + "x"}).Run(t.ctx)
	c.Check(err, check.ErrorMatches, `request: open rollback file: .*no such file.* \(name the file that .*\)`)
}

// A file that was named by mistake is refused, and stays as it is.
func (t *rollbackSuite) TestOtherFiles(c *check.C) {
	path := filepath.Join(c.MkDir(), "rollback")
	for _, text := range []string{"my only notes", "my only notes\nand more", "{}", "\n" + goodLine, `{"collection":"x"}` + "\n",
		`{"collection":"zzzzz-4zz18-000000000000001","action":"written"}` + "\n"} {
		c.Assert(os.WriteFile(path, []byte(text), 0600), check.IsNil)
		_, err := OpenRollback(path)
		c.Check(err, check.ErrorMatches, `request: prepare rollback file .*rollback: it is not what arv-docker has written to undo changes \(name another file\)`,
			check.Commentf("%q", text))
		has, err := os.ReadFile(path)
		c.Assert(err, check.IsNil)
		c.Check(string(has), check.Equals, text)
	}
}

const goodLine = `{"collection":"zzzzz-4zz18-000000000000001","before":{},"after":{"n":"1"}}` + "\n"

// What was being written when a program was stopped is taken away, and nothing else.
func (t *rollbackSuite) TestUnfinishedLines(c *check.C) {
	path := filepath.Join(c.MkDir(), "rollback")
	for text, stays := range map[string]string{
		"":                            "",
		goodLine[:5]:                  "",
		goodLine[:len(goodLine)-1]:    "",
		goodLine:                      goodLine,
		goodLine + goodLine[:20]:      goodLine,
		goodLine + goodLine + "x":     goodLine + goodLine,
		goodLine + "odd\n" + goodLine: goodLine + "odd\n" + goodLine, // to be found when it is undone
	} {
		c.Assert(os.WriteFile(path, []byte(text), 0600), check.IsNil)
		file, err := OpenRollback(path)
		c.Assert(err, check.IsNil, check.Commentf("%q", text))
		c.Check(file.Close(), check.IsNil)
		has, err := os.ReadFile(path)
		c.Assert(err, check.IsNil)
		c.Check(string(has), check.Equals, stays)
	}
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
