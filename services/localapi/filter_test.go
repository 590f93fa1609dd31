// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/check.v1"
	"pgregory.net/rapid"
)

var _ = check.Suite(&filterSuite{})

type filterSuite struct{ apiSuite }

func (s *filterSuite) SetUpTest(c *check.C) {
	s.apiSuite.SetUpTest(c)
	for _, rec := range []Record{
		{"name": "a", "description": "First", "properties": Record{"s": "alpha", "n": 3, "list": []any{"x", "y", 1}, "flag": true, "z": nil}},
		{"name": "b", "properties": Record{"s": "Beta", "n": 7.5, "list": []any{}, "flag": false}, "replication_desired": 2},
		{"name": "c", "properties": Record{"s": "100%", "n": "7", "arv:docker-image-layers": []any{"sha256:1", "sha256:2"}}},
		{"name": "d", "properties": Record{"http://example.com/#x": "uri", "x.y": "dot", "s": "x"}},
	} {
		s.alice.must("POST", "collections", rec)
	}
}

// Alice has the collections a to d; everybody has the empty one, "empty
// collection".
func (s *filterSuite) TestFilters(c *check.C) {
	const empty = ",empty collection"
	for _, trial := range []struct{ filters, want string }{
		{`[]`, "a,b,c,d" + empty},
		{`[["name","=","a"]]`, "a"},
		{`[["name","!=","a"]]`, "b,c,d" + empty},
		{`[["name","<","b"]]`, "a"},
		{`[["name",">=","c"]]`, "c,d" + empty},
		{`[["name","in",["a","d","zz"]]]`, "a,d"},
		{`[["name","not in",["a","d"]]]`, "b,c" + empty},
		{`[["name","like","%B%"]]`, ""},
		{`[["name","ilike","%B%"]]`, "b"},
		{`[["name","ILIKE","_"]]`, "a,b,c,d"},
		{`[["description","=",null]]`, "b,c,d" + empty},
		{`[["description","!=",null]]`, "a"},
		{`[["description","!=","other"]]`, "a,b,c,d" + empty},
		{`[["description","in",["First",null]]]`, "a"},
		{`[["description","not in",["First"]]]`, "b,c,d" + empty},
		{`[["description","not in",["x",null]]]`, ""},
		{`[["replication_desired",">",1]]`, "b"},
		{`[["is_trashed","=",false]]`, "a,b,c,d" + empty},
		{`[["is_trashed","=","true"]]`, ""},
		{`[["preserve_version","!=","yes"]]`, "a,b,c,d" + empty},
		{`[["created_at",">","2020-01-01T00:00:00+02:00"]]`, "a,b,c,d" + empty},
		{`[["created_at","<","2020-01-01"]]`, ""},
		{`[["uuid","is_a","arvados#collection"]]`, "a,b,c,d" + empty},
		{`[["owner_uuid","is_a",["arvados#group","arvados#user"]],["name","<","e"]]`, "a,b,c,d"},
		{`[["uuid","is_a","arvados#nonsense"]]`, ""},
		{`[[["name","description"],"ilike","f%"]]`, "a"},
		{`[["any","ilike","%first%"]]`, "a"},
		{`[["any","like","%sha256:2%"]]`, "c"},
		{`[["any","=","b"]]`, "b"},
		{`[["name",">=","b"],["name","<=","c"]]`, "b,c"},

		{`[["properties.s","=","alpha"]]`, "a"},
		{`[["properties.s","!=","alpha"]]`, "b,c,d" + empty},
		{`[["properties.s","in",["alpha","Beta"]]]`, "a,b"},
		{`[["properties.s","not in",["alpha","x"]]]`, "b,c" + empty},
		{`[["properties.s","like","b%"]]`, ""},
		{`[["properties.s","ilike","b%"]]`, "b"},
		{`[["properties.s","like","100\\%"]]`, "c"},
		{`[["properties.s",">","b"]]`, "d"},
		{`[["properties.n","=",7.5]]`, "b"},
		{`[["properties.n","=",3.0]]`, "a"},
		{`[["properties.n","=","7"]]`, "c"},
		{`[["properties.n","=",7]]`, ""},
		{`[["properties.n",">",3]]`, "b"},
		{`[["properties.n",">=",3]]`, "a,b"},
		{`[["properties.flag","=",true]]`, "a"},
		{`[["properties.flag","=","true"]]`, ""},
		{`[["properties.z","=",null]]`, "a"},
		{`[["properties.z","exists",true]]`, "a"},
		{`[["properties.z","exists",false]]`, "b,c,d" + empty},
		{`[["properties.list","exists",true]]`, "a,b"},
		{`[["properties.list","=","x"]]`, ""},
		{`[["properties.list","contains","x"]]`, "a"},
		{`[["properties.list","contains",1]]`, "a"},
		{`[["properties.list","contains",["x","y"]]]`, "a"},
		{`[["properties.list","contains",["x","q"]]]`, ""},
		{`[["properties.s","contains","alpha"]]`, "a"},
		{`[["properties.s","contains",["alpha"]]]`, ""},
		{`[["properties.arv:docker-image-layers","contains","sha256:2"]]`, "c"},
		{`[["properties.<arv:docker-image-layers>","contains","sha256:2"]]`, "c"},
		{`[["properties.<http://example.com/#x>","=","uri"]]`, "d"},
		{`[["properties.x.y","=","dot"]]`, "d"},
		{`[["properties","exists","n"]]`, "a,b,c"},
		{`[["properties","contains",["s","list"]]]`, "a,b"},
		{`[["properties","contains","flag"]]`, "a,b"},
	} {
		got := strings.Join(s.alice.find("collections", trial.filters), ",")
		c.Check(got, check.Equals, trial.want, check.Commentf("%s", trial.filters))
	}
}

func (s *filterSuite) TestRefusedFilters(c *check.C) {
	for _, trial := range []struct {
		filters, message string
		status           int
	}{
		{`[["nonsense","=","x"]]`, `#<ArgumentError: Invalid attribute 'nonsense' in filter>`, 422},
		{`[["manifest_text","=","x"]]`, `#<ArgumentError: Invalid attribute 'manifest_text' in filter>`, 422},
		{`[["file_names","like","x"]]`, `#<ArgumentError: Invalid attribute 'file_names' in filter>`, 422},
		{`[["name","~","x"]]`, `#<ArgumentError: Invalid operator '~'>`, 422},
		{`[["name","=",["x"]]]`, `#<ArgumentError: Invalid operand type 'Array' for '=' operator in filters>`, 422},
		{`[["name","=",false]]`, `#<ArgumentError: Invalid operand type 'FalseClass' for '=' operator in filters>`, 422},
		{`[["name","<",null]]`, `#<ArgumentError: Invalid operand type 'NilClass' for '<' operator in filters>`, 422},
		{`[["name","in","x"]]`, `#<ArgumentError: Invalid operand type 'String' for 'in' operator in filters>`, 422},
		{`[["name","like",5]]`, `#<ArgumentError: Invalid operand type 'Integer' for 'like' operator in filters>`, 422},
		{`[["file_count","=","x"]]`, `#<ArgumentError: Invalid operand 'x' for integer attribute 'file_count'>`, 422},
		{`[["is_trashed","=","maybe"]]`, `#<ArgumentError: Invalid operand 'maybe' for boolean attribute 'is_trashed'>`, 422},
		{`[["created_at",">","soon"]]`, `#<ArgumentError: no time information in "soon">`, 422},
		{`[["name.x","=","x"]]`, `#<ArgumentError: Invalid attribute 'name' for subproperty filter>`, 422},
		{`[["properties.x","~","x"]]`, `#<ArgumentError: Invalid operator for subproperty search '~'>`, 422},
		{`[["properties.x","in","x"]]`, `#<ArgumentError: Invalid operand type 'String' for 'in' operator in filters>`, 422},
		{`[["properties.x","exists","x"]]`, `#<ArgumentError: Invalid operand 'x' for 'exists' must be true or false>`, 422},
		{`[["name","exists","x"]]`, `#<ArgumentError: Invalid attribute 'name' for operator 'exists' in filter>`, 422},
		{`[["properties","contains",[]]]`, `#<ArgumentError: Invalid operand '[]' for 'contains' operator>`, 422},
		{`[["name","=",{"a":"b"}]]`, `transcode: invalid filter operand map["a":"b"]`, 500},
		{`[["name","="]]`, `transcode: invalid filter array: expected 3 elements, got 2`, 500},
		{`[[["name"],5,"x"]]`, `transcode: invalid filter: attribute and operator must be strings`, 500},
		{`{"name":"x"}`, `transcode: filters must be an array`, 500},
		{`[5]`, `transcode: invalid filter 5: not an array`, 500},
	} {
		got := s.alice.do("GET", "collections?filters="+url.QueryEscape(trial.filters), nil)
		c.Check(got.status, check.Equals, trial.status, check.Commentf("%s", trial.filters))
		c.Check(strings.Contains(got.errors(), trial.message), check.Equals, true, check.Commentf("%s: %s", trial.filters, got.errors()))
	}
}

func (s *filterSuite) TestWhere(c *check.C) {
	get := func(where string) answer {
		return s.alice.do("GET", "collections?order=name&where="+url.QueryEscape(where), nil)
	}
	c.Check(get(`{"name":"a"}`).names(), check.DeepEquals, []string{"a"})
	c.Check(get(`{"name":["a","b"]}`).names(), check.DeepEquals, []string{"a", "b"})
	c.Check(get(`["name"]`).status, check.Equals, 422)
}

func (s *filterSuite) TestLikeIsSQLsLike(c *check.C) {
	rapid.Check(rapidT{c}, func(t *rapid.T) {
		plain := rapid.StringMatching(`[a-c%_\\.*(\n]{0,8}`).Draw(t, "text")
		escaped := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(plain)
		if !isLike(plain, escaped, false) {
			t.Fatalf("%q does not match itself", plain)
		}
		if !isLike("x\n"+strings.ToUpper(plain)+"y", "%"+escaped+"%", true) {
			t.Fatalf("%q is not found within", plain)
		}
		if isLike(plain+"x", escaped, false) {
			t.Fatalf("%q matches more than itself", plain)
		}
	})
}

// The same as by a regular expression.
func (s *filterSuite) TestLikeAsExpression(c *check.C) {
	rapid.Check(rapidT{c}, func(t *rapid.T) {
		pattern := rapid.StringMatching(`(%|_|\\%|\\_|a|b|B|é|a_|%ab|\\\\){0,8}`).Draw(t, "pattern")
		text := rapid.StringMatching(`[aAbBéÉ%_\\]{0,10}`).Draw(t, "text")
		for _, fold := range []bool{false, true} {
			if is, want := isLike(text, pattern, fold), likeExpression(pattern, fold).MatchString(text); is != want {
				t.Fatalf("%q like %q (%v): %v", text, pattern, fold, is)
			}
		}
	})
}

// likeExpression is a pattern of SQL as a regular expression.
func likeExpression(pattern string, fold bool) *regexp.Regexp {
	flags := "(?s)"
	if fold {
		flags = "(?si)"
	}
	expr, escaped := "", false
	for _, r := range pattern {
		switch {
		case escaped:
			expr, escaped = expr+regexp.QuoteMeta(string(r)), false
		case r == '\\':
			escaped = true
		case r == '%':
			expr += ".*"
		case r == '_':
			expr += "."
		default:
			expr += regexp.QuoteMeta(string(r))
		}
	}
	return regexp.MustCompile(flags + "^" + expr + "$")
}

// rapidT lets rapid report to a check.v1 test.
type rapidT struct{ *check.C }

func (t rapidT) Helper()                           {}
func (t rapidT) Name() string                      { return t.TestName() }
func (t rapidT) Skip(args ...any)                  { t.C.Skip("") }
func (t rapidT) SkipNow()                          { t.C.Skip("") }
func (t rapidT) Skipf(format string, args ...any)  { t.C.Skip(format) }
func (t rapidT) Failed() bool                      { return t.C.Failed() }
func (t rapidT) Error(args ...any)                 { t.C.Error(args...) }
func (t rapidT) Fatal(args ...any)                 { t.C.Fatal(args...) }
func (t rapidT) Log(args ...any)                   { t.C.Log(args...) }
func (t rapidT) Logf(format string, args ...any)   { t.C.Logf(format, args...) }
func (t rapidT) Errorf(format string, args ...any) { t.C.Errorf(format, args...) }
func (t rapidT) Fatalf(format string, args ...any) { t.C.Fatalf(format, args...) }

// FuzzFilters: whatever is sent as filters, the database understands what is
// made of it, or the client is told what is wrong.
func FuzzFilters(f *testing.F) {
	for _, seed := range []string{`[["name","=","x"]]`, `[["properties.<a>","contains",["x",null]]]`, `[[["name","uuid"],"not in",[1.5,null]]]`,
		`[["any","ilike","%\\"]]`, `[["is_trashed","=","t"]]`, `[["properties","exists","'"]]`, `["(x = y)"]`, `[["uuid","is_a",5]]`} {
		f.Add(seed)
	}
	store, err := OpenStore(f.Context(), f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { store.Close() })
	f.Fuzz(func(t *testing.T, text string) {
		if !json.Valid([]byte(text)) {
			return
		}
		filters, err := parseFilters(json.RawMessage(text))
		if err != nil {
			if _, ok := err.(*refusal); !ok {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for _, kindName := range []string{collections, links, containers} {
			err := store.View(t.Context(), func(tx *Tx) error {
				_, err := tx.List(kindName, Query{Filters: filters, Limit: 1})
				return err
			})
			if _, ok := err.(*refusal); err != nil && !ok {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
