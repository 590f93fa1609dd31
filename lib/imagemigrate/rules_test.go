// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

type rulesSuite struct{}

var _ = check.Suite(&rulesSuite{})

// ofImage are links as arv-keepdocker makes them, in the order of their making.
func ofImage(made interface{}, names ...string) []arvados.Link {
	links := []arvados.Link{{LinkClass: classHash, Name: "sha256:" + hexOf(1)}}
	for _, name := range names {
		links = append(links, arvados.Link{LinkClass: className, Name: name})
	}
	for i := range links {
		links[i].UUID = fmt.Sprintf("zzzzz-o0j2j-%015d", i)
		links[i].OwnerUUID = alice
		links[i].CreatedAt = start.Add(time.Duration(i) * time.Minute)
		links[i].Properties = map[string]interface{}{}
		if made != nil {
			links[i].Properties[linkTime] = made
		}
	}
	return links
}

func change(links []arvados.Link, with func([]arvados.Link)) []arvados.Link {
	with(links)
	return links
}

const made = "2023-05-06T07:08:09.123456789Z"

var awkward = []struct {
	what       string
	files      []string // of the collection; nil for the image's
	properties string   // of it
	links      []arvados.Link
	inherited  []arvados.Link
	rules      Rules
}{
	{what: "usual", properties: `{"docker-image-repo-tag":"lab/app:1"}`, links: ofImage(made, "lab/app:1")},
	{what: "no properties", links: ofImage(made, "lab/app:1")},
	{what: "hash only", links: ofImage(made)},
	{what: "several names, newest first", properties: `{"docker-image-repo-tag":"lab/app:1"}`, links: ofImage(made, "lab/app:1", "lab/app:2", "lab/app:latest")},
	{what: "one name twice", links: ofImage(made, "lab/app:1", "lab/app:1")},
	{what: "several hash links", links: append(ofImage(made, "lab/app:1"), ofImage(made)...)},
	{what: "no hash link", links: ofImage(made, "lab/app:1")[1:]},
	{what: "hash link of another image", links: change(ofImage(made, "lab/app:1"), func(l []arvados.Link) { l[0].Name = "sha256:" + hexOf(2) })},
	{what: "no time", links: ofImage(nil, "lab/app:1")},
	{what: "empty time", links: ofImage("", "lab/app:1")},
	{what: "time without zone", links: ofImage("2023-05-06 07:08:09", "lab/app:1")},
	{what: "no time at all", links: ofImage("yesterday", "lab/app:1")},
	{what: "number for time", links: ofImage(1683356889, "lab/app:1")},
	{what: "1970", links: ofImage("1970-01-01T00:00:00Z", "lab/app:1")},
	{what: "year one", links: ofImage("0001-01-01T00:00:00Z", "lab/app:1")},
	{what: "from the future", links: ofImage("2999-01-01T00:00:00Z", "lab/app:1")},
	{what: "times differ: the oldest name's", links: change(ofImage(made, "lab/app:1", "lab/app:2"), func(l []arvados.Link) {
		l[2].Properties[linkTime] = "2023-06-01T00:00:00Z"
	})},
	{what: "only the hash link has the time", links: change(ofImage(made, "lab/app:1"), func(l []arvados.Link) { delete(l[1].Properties, linkTime) })},
	{what: "link of somebody else", links: change(ofImage(made, "lab/app:1"), func(l []arvados.Link) { l[1].OwnerUUID = bob })},
	{what: "link of somebody else, own names only", rules: Rules{OwnNamesOnly: true}, links: change(ofImage(made, "lab/app:1"), func(l []arvados.Link) { l[1].OwnerUUID = bob })},
	{what: "null name", properties: `{"docker-image-repo-tag":null}`, links: ofImage(made)},
	{what: "null name, but a link", properties: `{"docker-image-repo-tag":null}`, links: ofImage(made, "lab/app:1")},
	{what: "name without link", properties: `{"docker-image-repo-tag":"lab/old:1"}`, links: ofImage(made, "lab/app:1")},
	{what: "other properties", properties: `{"type":"output","n":12345678901234567890,"x":[1.50,null],"responsible_person_uuid":"x"}`, links: ofImage(made, "lab/app:1")},
	{what: "all there", properties: `{"arv:docker-image":"1","docker-image-hash":"sha256:` + hexOf(1) + `","docker-image-repo-tag":["lab/app:1","lab/app:2"],"docker-image-timestamp":"` + made + `"}`,
		links: ofImage(made, "lab/app:1", "lab/app:2")},
	{what: "another time there", properties: `{"docker-image-timestamp":"2022-01-01T00:00:00Z"}`, links: ofImage(made, "lab/app:1")},
	{what: "odd time there", properties: `{"docker-image-timestamp":"noon"}`, links: ofImage(made, "lab/app:1")},
	{what: "another hash there", properties: `{"docker-image-hash":"sha256:` + hexOf(2) + `"}`, links: ofImage(made, "lab/app:1")},
	{what: "changed since", properties: `{"arv:docker-image-pdh":"d41d8cd98f00b204e9800998ecf8427e+0"}`, links: ofImage(made, "lab/app:1")},
	{what: "twins there", properties: `{"arv:docker-image":"1","arv:docker-image-hash":"sha256:` + hexOf(1) + `","docker-image-repo-tag":"lab/app:1","arv:docker-image-timestamp":"` + made + `"}`,
		links: ofImage(made, "lab/app:1", "lab/app:2")},
	{what: "full names", links: ofImage(made, "docker.io/library/alpine:3.22", "alpine:3.22", "index.docker.io/lab/app:1")},
	{what: "registry with port", links: ofImage(made, "registry.example:5000/lab/app:1", "registry.example:443/lab/app:1", "[::1]:5000/app:1")},
	{what: "no names", links: ofImage(made, "Lab/App:1", "<none>:<none>", "", ":", "lab/app:", "lab app:1", "a:b:c")},
	{what: "no tags", links: ofImage(made, "lab/app", "registry.example:5000/app")},
	{what: "digests for names", links: ofImage(made, "lab/app@sha256:"+hexOf(3), "sha256:"+hexOf(4), "lab/app:1@sha256:"+hexOf(3))},
	{what: "its own hash for a name", links: ofImage(made, "sha256:"+hexOf(1))},
	{what: "names like hashes", links: ofImage(made, "deadbeefcafe:latest", hexOf(5)+":latest", "sha256:latest")},
	{what: "parts of hashes", links: ofImage(made, "sha256:abc", "sha256:"+hexOf(2)[:20], "sha256:"+strings.Repeat("AB", 32), "sha256:latest", "lab/sha256:abc")},
	{what: "two files", files: []string{"README", "sha256:" + hexOf(1) + ".tar"}, links: ofImage(made, "lab/app:1")},
	{what: "no file", files: []string{}, links: ofImage(made, "lab/app:1")},
	{what: "another file", files: []string{"image.tar"}, links: ofImage(made, "lab/app:1")},
	{what: "old format", files: []string{hexOf(1) + ".tar"}, links: ofImage(made, "lab/app:1")},
	{what: "capital digits", files: []string{"sha256:" + strings.Repeat("AB", 32) + ".tar"}, links: ofImage(made, "lab/app:1")},
	{what: "replaces an old image", links: nil, inherited: ofImage("2015-01-01T00:00:00Z", "lab/old:1")},
	{what: "replaces an old image, has a name", links: ofImage(made, "lab/app:1"), inherited: ofImage("2015-01-01T00:00:00Z", "lab/old:1")},
}

// What is there, and what is written.
func (*rulesSuite) TestGolden(c *check.C) {
	var text strings.Builder
	for _, t := range awkward {
		coll := arvados.Collection{UUID: "zzzzz-4zz18-000000000000001", OwnerUUID: alice, CreatedAt: start, ManifestText: manifestOf("sha256:" + hexOf(1) + ".tar")}
		if t.files != nil {
			coll.ManifestText = manifestOf(t.files...)
			if len(t.files) == 0 {
				coll.ManifestText = ""
			}
		}
		coll.PortableDataHash = arvados.PortableDataHash(coll.ManifestText)
		var err error
		coll.Properties, err = decode(json.RawMessage(t.properties))
		c.Assert(err, check.IsNil)
		got := t.rules.Plan(coll, t.links, t.inherited)
		fmt.Fprintf(&text, "%s\n", t.what)
		for _, special := range got.Cases {
			fmt.Fprintf(&text, "  %s\n", strings.TrimSpace(string(special.Kind)+" "+special.Detail))
		}
		buf, err := json.MarshalIndent(got.Properties, "    ", "  ")
		c.Assert(err, check.IsNil)
		fmt.Fprintf(&text, "    %s\n", buf)
		if got.Properties == nil {
			continue
		}
		// What is there stays, but for lists and null; twice is once.
		for key, was := range coll.Properties {
			if was != nil && key != keyNames && key != keyTagged {
				c.Check(got.Properties[key], check.DeepEquals, was, check.Commentf("%s: %s", t.what, key))
			}
		}
		coll.Properties, err = decode(mustJSON(c, got.Properties))
		c.Assert(err, check.IsNil)
		again := t.rules.Plan(coll, t.links, t.inherited)
		c.Check(again.Properties, check.IsNil, check.Commentf("%s: %v", t.what, again.Properties))
		c.Check(again.Names, check.HasLen, 0)
	}
	golden(c, "rules", text.String())
}

func mustJSON(c *check.C, value interface{}) []byte {
	buf, err := json.Marshal(value)
	c.Assert(err, check.IsNil)
	return buf
}

func (*rulesSuite) TestTimes(c *check.C) {
	for text, want := range map[string]string{
		made:                               made,
		"2023-05-06T07:08:09+02:00":        "2023-05-06T05:08:09Z",
		"2023-05-06T07:08:09":              "2023-05-06T07:08:09Z",
		"2023-05-06 07:08:09 UTC":          "2023-05-06T07:08:09Z",
		"2023-05-06 07:08:09 +0200":        "2023-05-06T05:08:09Z",
		"2023-05-06 07:08:09.5 -0700":      "2023-05-06T14:08:09.5Z",
		"2023-05-06 07:08:09.25 +0000 UTC": "2023-05-06T07:08:09.25Z",
		"0001-01-01T00:00:00Z":             "",
		"2023-13-06T07:08:09Z":             "",
		"":                                 "",
	} {
		t, _ := readTime(text)
		got := ""
		if !t.IsZero() {
			got = t.Format(time.RFC3339Nano)
		}
		c.Check(got, check.Equals, want, check.Commentf("%q", text))
	}
	for _, none := range []interface{}{nil, 5.0, true, []interface{}{made}} {
		t, clear := readTime(none)
		c.Check(t.IsZero(), check.Equals, true)
		c.Check(clear, check.Equals, false)
	}
}
