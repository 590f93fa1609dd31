// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

var _ = check.Suite(&linksSuite{})

type linksSuite struct{}

// linkServer has links to one collection.
type linkServer struct {
	has     []arvados.Link
	filters []arvados.Filter
	made    []map[string]interface{}
	refuse  string // name of a link that cannot be made
	broken  bool
}

func (l *linkServer) RequestAndDecodeContext(_ context.Context, dst interface{}, method, path string, _ io.Reader, params interface{}) error {
	if l.broken {
		return errors.New("connection refused")
	}
	if method == http.MethodGet {
		l.filters = params.(arvados.ResourceListParams).Filters
		dst.(*arvados.LinkList).Items = l.has
		return nil
	}
	link := params.(map[string]interface{})["link"].(map[string]interface{})
	if link["name"] == l.refuse {
		return &arvados.TransactionError{StatusCode: http.StatusForbidden, Errors: []string{"not yours"}}
	}
	l.made = append(l.made, link)
	dst.(*arvados.Link).UUID = "zzzzz-o0j2j-000000000000001"
	return nil
}

func (*linksSuite) TestWriteLinks(c *check.C) {
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	hash := "sha256:" + hexOf(1)
	coll := arvados.Collection{UUID: "zzzzz-4zz18-000000000000001", OwnerUUID: alice, PortableDataHash: "x+1",
		Properties: Properties{Hash: hash, RepoTags: []string{"a:1", "b:1"}, Timestamp: made}.Map()}
	server := &linkServer{has: []arvados.Link{{LinkClass: LinkName, Name: "a:1", OwnerUUID: alice}, {LinkClass: LinkName, Name: hash, OwnerUUID: alice}}}
	c.Assert(WriteLinks(context.Background(), server, coll, "b:1", "docker.io/b:1"), check.IsNil)
	var names []interface{}
	for _, link := range server.made {
		names = append(names, link["link_class"], link["name"])
		c.Check(link["owner_uuid"], check.Equals, alice)
		c.Check(link["head_uuid"], check.Equals, coll.UUID)
		c.Check(link["properties"], check.DeepEquals, map[string]interface{}{LinkTime: "2026-01-02T03:04:05Z"})
	}
	c.Check(names, check.DeepEquals, []interface{}{LinkHash, hash, LinkName, "b:1", LinkName, "docker.io/b:1"})
	// Somebody else's links are not the owner's.
	c.Check(server.filters[1], check.Equals, arvados.Filter{Attr: "owner_uuid", Operator: "=", Operand: alice})

	server.refuse = "b:1"
	err := WriteLinks(context.Background(), server, coll)
	c.Check(err, check.ErrorMatches, `image x\+1 is in collection zzzzz-.*, but its link "b:1" cannot be written: api: write link: .*`)
	c.Check(fault.Transient(err), check.Equals, false)
	server.broken = true
	err = WriteLinks(context.Background(), server, coll)
	c.Check(err, check.ErrorMatches, `api: find links of collection zzzzz-.*: connection refused`)
}

// A link is there if it is the owner's, of the same class and of the same name.
func (*linksSuite) TestMissingLinks(c *check.C) {
	hash := "sha256:" + hexOf(1)
	props := Properties{Hash: hash, RepoTags: []string{"a:1", "b:1"}, Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	for _, trial := range []struct {
		there []arvados.Link
		want  []string
	}{
		{nil, []string{hash, "a:1", "b:1"}},
		{[]arvados.Link{{LinkClass: LinkName, Name: "a:1", OwnerUUID: alice}}, []string{hash, "b:1"}},
		{[]arvados.Link{{LinkClass: LinkName, Name: "a:1", OwnerUUID: "zzzzz-tpzed-000000000000bob"}}, []string{hash, "a:1", "b:1"}},
		{[]arvados.Link{{LinkClass: LinkHash, Name: "a:1", OwnerUUID: alice}, {LinkClass: LinkHash, Name: hash, OwnerUUID: alice}}, []string{"a:1", "b:1"}},
		{[]arvados.Link{{LinkClass: LinkHash, Name: hash, OwnerUUID: alice}, {LinkClass: LinkName, Name: "b:1", OwnerUUID: alice},
			{LinkClass: LinkName, Name: "a:1", OwnerUUID: alice}, {LinkClass: LinkName, Name: "c:1", OwnerUUID: alice}}, nil},
	} {
		var names []string
		for _, link := range MissingLinks(props, alice, trial.there) {
			names = append(names, link.Name)
			c.Check(link.Properties, check.DeepEquals, map[string]interface{}{LinkTime: "2026-01-02T03:04:05Z"})
		}
		c.Check(names, check.DeepEquals, trial.want, check.Commentf("%v", trial.there))
	}
	c.Check(MissingLinks(Properties{}, alice, nil), check.HasLen, 0)
}

// Who makes a link learns its UUID, by which it can be deleted.
func (*linksSuite) TestMakeLink(c *check.C) {
	server := &linkServer{}
	coll := arvados.Collection{UUID: "zzzzz-4zz18-000000000000001", OwnerUUID: alice}
	made, err := MakeLink(context.Background(), server, coll, arvados.Link{LinkClass: LinkName, Name: "a:1"})
	c.Check(err, check.IsNil)
	c.Check(made.UUID, check.Equals, "zzzzz-o0j2j-000000000000001")
	c.Check(server.made[0]["head_uuid"], check.Equals, coll.UUID)
	server.refuse = "a:1"
	_, err = MakeLink(context.Background(), server, coll, arvados.Link{LinkClass: LinkName, Name: "a:1"})
	c.Check(err, check.ErrorMatches, ".*not yours.*")
}

func (*linksSuite) TestWithNames(c *check.C) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, trial := range []struct {
		has   map[string]interface{}
		names []string
		want  interface{} // nil if nothing changes
	}{
		{nil, nil, nil},
		{nil, []string{"a:1"}, "a:1"},
		{map[string]interface{}{KeyRepoTag: nil}, []string{"a:1"}, "a:1"},
		{map[string]interface{}{KeyRepoTag: "a:1"}, []string{"a:1"}, nil},
		{map[string]interface{}{KeyRepoTag: "a:1"}, []string{"b:1", "a:1", "b:1"}, []string{"a:1", "b:1"}},
		{map[string]interface{}{KeyRepoTag: []interface{}{"a:1", "b:1"}}, []string{"c:1"}, []string{"a:1", "b:1", "c:1"}},
	} {
		if trial.has != nil {
			trial.has["mine"] = "stays"
		}
		before := len(trial.has)
		got, changed := WithNames(trial.has, trial.names, now)
		c.Check(changed, check.Equals, trial.want != nil, check.Commentf("%v", trial))
		if trial.want == nil {
			c.Check(got, check.DeepEquals, trial.has)
			continue
		}
		c.Check(got[KeyRepoTag], check.DeepEquals, trial.want, check.Commentf("%v", trial))
		c.Check(got[KeyTagged], check.Equals, "2026-01-02T03:04:05Z")
		c.Check(got["mine"], check.Equals, trial.has["mine"])
		c.Check(trial.has, check.HasLen, before) // it is another map
	}
}

func (*linksSuite) TestFoundIn(c *check.C) {
	hash := "sha256:" + hexOf(7)
	coll := arvados.Collection{UUID: "u", OwnerUUID: alice, PortableDataHash: "p", CreatedAt: time.Unix(1, 0),
		ManifestText: ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:sha256\\072" + hexOf(7) + ".tar\n", Properties: map[string]interface{}{KeyRepoTag: "a:1"}}
	found := FoundIn(coll)
	c.Check(found, check.DeepEquals, Found{UUID: "u", OwnerUUID: alice, PDH: "p", CreatedAt: time.Unix(1, 0),
		ManifestText: coll.ManifestText, Properties: Properties{RepoTags: []string{"a:1"}}})
	got, err := found.Hash()
	c.Check(err, check.IsNil)
	c.Check(got, check.Equals, hash)
	_, err = Found{ManifestText: ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:other\n"}.Hash()
	c.Check(err, check.ErrorMatches, `its file "other" has not the name of an image`)
}
