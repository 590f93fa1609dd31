// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

type mountsSuite struct{ fixture }

var _ = check.Suite(&mountsSuite{})

func text(content string) arvados.Mount { return arvados.Mount{Kind: "text", Content: content} }

func (s *mountsSuite) TestMounts(c *check.C) {
	pdh := s.cl.store(4, file{"Dockerfile", "FROM scratch"}, file{"src/a", "one"}, file{"src/b", ""}, file{"src/deep/c", "three"}, file{"void/", ""})
	other := s.cl.store(4, file{"x", "X"}, file{"y/z", "Z"})
	uuid := "zzzzz-4zz18-000000000000000"
	s.cl.collections[uuid] = s.cl.collections[other]
	whole := arvados.Mount{Kind: "collection", PortableDataHash: pdh}
	for _, trial := range []struct {
		mounts map[string]arvados.Mount
		want   []string
	}{
		{nil, []string{}},
		{map[string]arvados.Mount{"/out": {Kind: "tmp", Capacity: 1}}, []string{}},
		{map[string]arvados.Mount{"/": whole}, []string{
			`Dockerfile 755 "FROM scratch"`, `src/ 755`, `src/a 755 "one"`, `src/b 755 ""`, `src/deep/ 755`, `src/deep/c 755 "three"`, `void/ 755`,
		}},
		{map[string]arvados.Mount{"/in/put": {Kind: "collection", UUID: uuid}}, []string{
			`in/ 755`, `in/put/ 755`, `in/put/x 755 "X"`, `in/put/y/ 755`, `in/put/y/z 755 "Z"`,
		}},
		// With a path: a folder, a file.
		{map[string]arvados.Mount{
			"/d": {Kind: "collection", PortableDataHash: pdh, Path: "/src/deep"},
			"/f": {Kind: "collection", PortableDataHash: pdh, Path: "src/a"},
		}, []string{`f 755 "one"`, `d/ 755`, `d/c 755 "three"`}},
		// Overlaid, files and folders in turn; what is below a replaced
		// folder goes, what is beside it stays.
		{map[string]arvados.Mount{
			"/":             whole,
			"/Dockerfile":   text("FROM busybox"),
			"/src/":         {Kind: "collection", PortableDataHash: other},
			"/src/y/z":      {Kind: "json", Content: map[string]interface{}{"b": "<>", "a": []interface{}{1.5, nil}}},
			"/void/new/way": text(""),
		}, []string{
			`Dockerfile 644 "FROM busybox"`, `src/ 755`, `src/x 755 "X"`, `src/y/ 755`,
			`src/y/z 644 "{\"a\":[1.5,null],\"b\":\"\\u003c\\u003e\"}"`, `void/ 755`, `void/new/ 755`, `void/new/way 644 ""`,
		}},
		{map[string]arvados.Mount{"/a": whole, "/a/src": text("now a file"), "/a/Dockerfile": {Kind: "collection", PortableDataHash: emptyPDH}}, []string{
			`a/ 755`, `a/src 644 "now a file"`, `a/Dockerfile/ 755`, `a/void/ 755`,
		}},
		// What is no data hides nothing.
		{map[string]arvados.Mount{
			"/":      {Kind: "collection", PortableDataHash: other},
			"/y":     {Kind: "tmp"},
			"/x":     {Kind: "collection", Writable: true},
			"/keep":  {Kind: "keep"},
			"stdout": {Kind: "file", Path: "/y/log"},
			"stderr": {Kind: "file", Path: "/y/err"},
			"stdin":  {Kind: "collection", PortableDataHash: pdh, Path: "src/a"},
		}, []string{`x 755 "X"`, `y/ 755`, `y/z 755 "Z"`}},
	} {
		t := s.mounts(c, trial.mounts)
		c.Check(listing(c, t), check.DeepEquals, trial.want, check.Commentf("%v", trial.mounts))
	}
}

func (s *mountsSuite) TestOddNames(c *check.C) {
	names := []string{"with space", "new\nline", "back\\slash", "co:lon", "\xff\xfe", "ünï", "dir \xff/ :x", ".hidden/.x", fmt.Sprintf("long/%0200d/%0200d", 1, 2)}
	var files []file
	for _, name := range names {
		files = append(files, file{name, "content of " + name})
	}
	t := s.collection(c, s.cl.store(10, files...))
	got := fmt.Sprintf("%q", listing(c, t))
	for _, name := range names {
		c.Check(got, check.Matches, `(?s).*`+regexp.QuoteMeta(strings.Trim(fmt.Sprintf("%q", name+" 755"), `"`))+`.*`)
		content, err := t.ReadFile(s.ctx, name, 1000)
		c.Check(err, check.IsNil)
		c.Check(string(content), check.Equals, "content of "+name)
	}
}

func (s *mountsSuite) TestRefusals(c *check.C) {
	pdh := s.cl.store(4, file{"a", "A"})
	collection := func(path string) arvados.Mount {
		return arvados.Mount{Kind: "collection", PortableDataHash: pdh, Path: path}
	}
	gone := "0123456789abcdef0123456789abcdef+50"
	nul := s.cl.add(". d41d8cd98f00b204e9800998ecf8427e+0 0:0:a\\000b\n")
	bad := "zzzzz-4zz18-0000000000bad00"
	s.cl.collections[bad] = "nonsense\n"
	for _, trial := range []struct {
		key   string
		mount arvados.Mount
		want  string
	}{
		{"/g", arvados.Mount{Kind: "git_tree", UUID: "zzzzz-s0uqq-000000000000000"}, `mounts\["/g"\]: mounts of the kind "git_tree" .*\(name the git repository in the command instead.*`},
		{"/g", arvados.Mount{Kind: "floppy"}, `mounts\["/g"\]: mounts of the kind "floppy" .*use the kinds`},
		{"/g", arvados.Mount{}, `mounts\["/g"\]: mounts of the kind ""`},
		{"/t", arvados.Mount{Kind: "text", Content: 5.0}, `mounts\["/t"\]: its content is no text`},
		{"/c", arvados.Mount{Kind: "collection", PortableDataHash: gone}, `mounts\["/c"\]: there is no collection ` + gone[:32] + `\+50 that you may read`},
		{"/c", arvados.Mount{Kind: "collection", PortableDataHash: "myimage"}, `mounts\["/c"\]: it is not named by`},
		{"/c", arvados.Mount{Kind: "collection", UUID: "zzzzz-tpzed-000000000000000"}, `mounts\["/c"\]: it is not named by`},
		{"/c", arvados.Mount{Kind: "collection"}, `mounts\["/c"\]: it has neither "portable_data_hash" nor "uuid"`},
		{"/c", arvados.Mount{Kind: "collection", UUID: bad}, `mounts\["/c"\]: keep: read manifest line 1`},
		{"/c", arvados.Mount{Kind: "collection", PortableDataHash: nul}, `mounts\["/c"\]: "a\\x00b" is no proper name`},
		{"/c", collection("b"), `mounts\["/c"\]: collection .* has no "b" \(correct "path"\)`},
		{"/c", collection("a/b"), `has no "a/b"`},
		{"/c", collection("../a"), `mounts\["/c"\]: .*leads out`},
		{"/", collection("a"), `mounts\["/"\]: a file cannot be mounted at "/"`},
		{"/", text(""), `mounts\["/"\]: a file cannot`},
		{"c", collection(""), `mounts\["c"\]: it is not an absolute path`},
		{"/x/../c", collection(""), `mounts\["/x/../c"\]: it is not an absolute path`},
		{"/c\x00", collection(""), `mounts\["/c\\x00"\]: .*no proper name`},
		{"/outer/", collection(""), `mounts\["/outer/?"\]: mounts\["/outer/?"\] is at the same path`},
		{"/outer/a/b", text(""), `mounts\["/outer/a/b"\]: "outer/a" is no folder`},
	} {
		_, err := FromMounts(s.ctx, s.cl, s.cl.client(), map[string]arvados.Mount{"/outer": collection(""), trial.key: trial.mount})
		checkRefused(c, err, trial.want)
	}
}

func (s *mountsSuite) TestTroubleOfTheAPI(c *check.C) {
	for _, trial := range []struct {
		err       error
		transient bool
	}{
		{errors.New("connection lost"), true},
		{&arvados.TransactionError{StatusCode: 503}, true},
		{&arvados.TransactionError{StatusCode: 429}, true},
		{&arvados.TransactionError{StatusCode: 401}, false},
	} {
		s.cl.fail = trial.err
		_, err := FromCollection(s.ctx, s.cl, s.cl.client(), "zzzzz-4zz18-000000000000000")
		c.Check(err, check.ErrorMatches, `api: read collection zzzzz-4zz18-000000000000000: .*`)
		c.Check(fault.SideOf(err), check.Equals, fault.API)
		c.Check(fault.Transient(err), check.Equals, trial.transient)
	}
}

func (s *mountsSuite) TestACollectionIsAskedForOnce(c *check.C) {
	pdh := s.cl.store(4, file{"a", "A"}, file{"b", "B"})
	s.mounts(c, map[string]arvados.Mount{
		"/1": {Kind: "collection", PortableDataHash: pdh, Path: "a"},
		"/2": {Kind: "collection", PortableDataHash: pdh, Path: "b"},
		"/3": {Kind: "collection", PortableDataHash: emptyPDH},
	})
	c.Check(s.cl.requests, check.DeepEquals, []string{"GET arvados/v1/collections/" + pdh})
	c.Check(s.cl.keep.Stats().Reads, check.Equals, 0)
}
