// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"encoding/json"
	"testing"

	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&inspectSuite{})

type inspectSuite struct{}

func (*inspectSuite) TestValuesAsRubyShowsThem(c *check.C) {
	for written, shown := range map[string]string{
		`null`:                 `nil`,
		`true`:                 `true`,
		`0`:                    `0`,
		`-7`:                   `-7`,
		`9007199254740993`:     `9007199254740993`, // not to be had with a float
		`0.1`:                  `0.1`,
		`2.0`:                  `2.0`,
		`1e3`:                  `1000.0`,
		`0.00001`:              `1.0e-05`,
		`12345678901234567.5`:  `1.2345678901234568e+16`,
		`1e16`:                 `1.0e+16`,
		`1e999`:                `1.7976931348623157e+308`, // no infinity
		`[]`:                   `[]`,
		`["a",1,null]`:         `["a", 1, nil]`,
		`{}`:                   `{}`,
		`{"b":{"y":1,"x":[]}}`: `{"b"=>{"y"=>1, "x"=>[]}}`,
		`"a\"b\\c"`:            `"a\"b\\c"`,
		`"\n\t\r\u0000\u001b"`: `"\n\t\r\u0000\e"`,
		`"\u007f"`:             `"\x7F"`,
		`"#{x} #$y #@z # #"`:   `"\#{x} \#$y \#@z # #"`,
		`"héé"`:                `"héé"`,
		`"\u2028"`:             `"\u2028"`,
		`"\ue000"`:             `"\uE000"`,
		`"\udbff\udfff"`:       `"\u{10FFFF}"`,
	} {
		c.Check(inspectWritten(json.RawMessage(written)), check.Equals, shown, check.Commentf("%s", written))
	}
}

func (*inspectSuite) TestKeysComeInTheOrderOfTheirColumn(c *check.C) {
	v, err := decode([]byte(`{"sub":{"x":1,"abc":2},"from_cr":"1","both":"cr","a":[{"zz":1,"y":2}]}`))
	c.Assert(err, check.IsNil)
	c.Check(inspect(v, byName), check.Equals,
		`{"a"=>[{"y"=>2, "zz"=>1}], "both"=>"cr", "from_cr"=>"1", "sub"=>{"abc"=>2, "x"=>1}}`)
	c.Check(inspect(v, byLength), check.Equals,
		`{"a"=>[{"y"=>2, "zz"=>1}], "sub"=>{"x"=>1, "abc"=>2}, "both"=>"cr", "from_cr"=>"1"}`)
}

func (*inspectSuite) TestTimes(c *check.C) {
	c.Check(inspectTime(nil), check.Equals, "nil")
	c.Check(inspectTime("2026-11-23T15:28:19.948423000Z"), check.Equals, "Mon, 23 Nov 2026 15:28:19.948423000 UTC +00:00")
}

func (*inspectSuite) TestAttributesByTheirHumanNames(c *check.C) {
	c.Check(human("output_path"), check.Equals, "Output path")
	c.Check(human("container_uuid"), check.Equals, "Container uuid")
	c.Check(human("log"), check.Equals, "Log")
}

func FuzzInspect(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5,{"b":null}]}`, `"#{\u0001"`, `[`, `{"a"`, `1e400`, `"\ud800"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, written string) {
		v, err := decode([]byte(written))
		shown := inspectWritten(json.RawMessage(written))
		if err == nil && !isNested(v) && shown != inspect(v, byName) {
			t.Errorf("%q shows as %q when written and as %q when read", written, shown, inspect(v, byName))
		}
	})
}
