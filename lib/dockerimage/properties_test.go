// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"encoding/json"
	"testing"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

type propertiesSuite struct{}

var _ = check.Suite(&propertiesSuite{})

func day(d int) time.Time { return time.Date(2026, 1, d, 3, 4, 5, 600, time.UTC) }

var fullProperties = Properties{
	Hash:      "sha256:abc",
	RepoTags:  []string{"alpine:3.22", "localhost:5000/a/b:c"},
	Timestamp: day(1),
	Digests:   []string{"sha256:index", "sha256:manifest"},
	Platform:  "linux/arm64/v8",
	Layers:    []string{"sha256:one"},
	Size:      5 << 32,
	Tagged:    day(2),
	PDH:       "d41d8cd98f00b204e9800998ecf8427e+0",
	Bases: []Base{
		{Name: "alpine:3.22", Hash: "sha256:kept", PDH: "d41d8cd98f00b204e9800998ecf8427e+1"},
		{Name: "debian", Hash: "sha256:pulled"},
	},
	Key: "0123",
}

const fullJSON = `{` +
	`"arv:docker-image":"1",` +
	`"arv:docker-image-base":["alpine:3.22","sha256:kept","d41d8cd98f00b204e9800998ecf8427e+1","debian","sha256:pulled"],` +
	`"arv:docker-image-digest":["sha256:index","sha256:manifest"],` +
	`"arv:docker-image-key":"0123",` +
	`"arv:docker-image-layers":["sha256:one"],` +
	`"arv:docker-image-pdh":"d41d8cd98f00b204e9800998ecf8427e+0",` +
	`"arv:docker-image-platform":"linux/arm64/v8",` +
	`"arv:docker-image-size":21474836480,` +
	`"arv:docker-image-tagged":"2026-01-02T03:04:05.0000006Z",` +
	`"docker-image-hash":"sha256:abc",` +
	`"docker-image-repo-tag":["alpine:3.22","localhost:5000/a/b:c"],` +
	`"docker-image-timestamp":"2026-01-01T03:04:05.0000006Z"}`

func (*propertiesSuite) TestMap(c *check.C) {
	for want, p := range map[string]Properties{
		fullJSON:                   fullProperties,
		`{"arv:docker-image":"1"}`: {RepoTags: []string{}},
		`{"arv:docker-image":"1","docker-image-repo-tag":"a:b"}`:          {RepoTags: []string{"a:b"}},
		`{"arv:docker-image":"1","arv:docker-image-digest":["sha256:x"]}`: {Digests: []string{"sha256:x"}},
	} {
		got, err := json.Marshal(p.Map())
		c.Assert(err, check.IsNil)
		c.Check(string(got), check.Equals, want)
		c.Check(ParseProperties(p.Map()).Map(), check.DeepEquals, p.Map())
	}
}

func (*propertiesSuite) TestParse(c *check.C) {
	for text, want := range map[string]Properties{
		fullJSON: fullProperties,
		`{}`:     {},
		`null`:   {},
		// one value where a list is expected, a list where one value is
		`{"docker-image-repo-tag":"a:b","arv:docker-image-digest":"sha256:x","docker-image-hash":["sha256:y"]}`: {
			RepoTags: []string{"a:b"}, Digests: []string{"sha256:x"}, Hash: "sha256:y"},
		// a name alone, and one like a portable data hash
		`{"arv:docker-image-base":"a"}`: {Bases: []Base{{Name: "a"}}},
		`{"arv:docker-image-base":["a","sha256:b","d41d8cd98f00b204e9800998ecf8427e+1","d41d8cd98f00b204e9800998ecf8427e+2","sha256:c"]}`: {
			Bases: []Base{{"a", "sha256:b", "d41d8cd98f00b204e9800998ecf8427e+1"}, {Name: "d41d8cd98f00b204e9800998ecf8427e+2", Hash: "sha256:c"}}},
		// what arv-keepdocker writes of an image without a name
		`{"docker-image-repo-tag":null}`: {},
		// twins, which plain ones go before
		`{"arv:docker-image-hash":"sha256:t","docker-image-repo-tag":["a:b"],"arv:docker-image-timestamp":"2026-01-01T03:04:05.0000006Z"}`: {
			Hash: "sha256:t", RepoTags: []string{"a:b"}, Timestamp: day(1)},
		`{"docker-image-hash":"sha256:p","arv:docker-image-hash":"sha256:t"}`: {Hash: "sha256:p"},
		// of which names have none: no server refuses their key
		`{"arv:docker-image-repo-tag":"a:b"}`:                                              {},
		`{"docker-image-timestamp":"2026-01-01T05:04:05.0000006+02:00"}`:                   {Timestamp: day(1)},
		`{"docker-image-timestamp":"0001-01-01T00:00:00Z","arv:docker-image-tagged":"no"}`: {},
		`{"arv:docker-image-size":"123"}`:                                                  {Size: 123},
		`{"arv:docker-image-size":-1}`:                                                     {},
		`{"arv:docker-image-size":1e300}`:                                                  {},
		// values of no use
		`{"docker-image-hash":5,"docker-image-repo-tag":{"a":1},"arv:docker-image-size":[1],"arv:docker-image-layers":[1,null,"x",["y"]],"arv:docker-image-pdh":""}`: {
			Layers: []string{"x", "y"}},
	} {
		var m map[string]interface{}
		c.Assert(json.Unmarshal([]byte(text), &m), check.IsNil)
		c.Check(ParseProperties(m), check.DeepEquals, want, check.Commentf(text))
	}
	c.Check(ParseProperties(map[string]interface{}{KeySize: json.Number("7")}).Size, check.Equals, int64(7))
}

func (*propertiesSuite) TestLinks(c *check.C) {
	stamp := map[string]interface{}{"image_timestamp": "2026-01-01T03:04:05.0000006Z"}
	c.Check(fullProperties.Links(), check.DeepEquals, []arvados.Link{
		{LinkClass: "docker_image_hash", Name: "sha256:abc", Properties: stamp},
		{LinkClass: "docker_image_repo+tag", Name: "alpine:3.22", Properties: stamp},
		{LinkClass: "docker_image_repo+tag", Name: "localhost:5000/a/b:c", Properties: stamp},
	})
	c.Check(Properties{Hash: "sha256:abc"}.Links(), check.DeepEquals, []arvados.Link{
		{LinkClass: "docker_image_hash", Name: "sha256:abc", Properties: map[string]interface{}{}}})
	c.Check(Properties{}.Links(), check.HasLen, 0)
}

// Whatever JSON users put into properties, reading it does not fail, and what
// was understood is understood again.
func FuzzParseProperties(f *testing.F) {
	f.Add([]byte(fullJSON))
	f.Add([]byte(`{"docker-image-repo-tag":[["a"],null,1],"arv:docker-image-size":1e999}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var m map[string]interface{}
		if json.Unmarshal(text, &m) != nil {
			return
		}
		p := ParseProperties(m)
		buf, err := json.Marshal(p.Map())
		if err != nil {
			t.Fatal(err)
		}
		var again map[string]interface{}
		if err := json.Unmarshal(buf, &again); err != nil {
			t.Fatal(err)
		}
		twice, err := json.Marshal(ParseProperties(again).Map())
		if err != nil || string(twice) != string(buf) {
			t.Fatalf("%s became %s (%v)", buf, twice, err)
		}
	})
}
