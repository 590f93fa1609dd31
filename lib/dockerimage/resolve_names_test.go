// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

var tag128 = strings.Repeat("t", 128)

// hexOf is the hash of a test's image.
func hexOf(n int) string { return strings.Repeat(fmt.Sprintf("%02d", n), 32) }

// stored are the images that the table of names is about, by the names they
// were given; the last digits of the hash are those of the day in January on
// which the image was made.
var stored = []struct {
	day    int
	names  []string
	legacy bool // stored by today's arv-keepdocker: its time is in links only
}{
	{1, []string{"lab/app:1"}, false},
	{2, []string{"lab/app:1"}, true},
	{3, []string{"lab/app:2", "lab/app:latest"}, false},
	{4, []string{"alpine:3.22"}, false},
	{5, []string{"registry.example:5000/lab/app:latest"}, false},
	{6, []string{"registry.example:5000/lab/app:1"}, true},
	{7, []string{"docker.io/lab/written:1"}, true},
	{8, []string{"app:" + tag128}, false},
	{9, []string{"sha256:latest"}, false},
	{10, []string{"deadbeefcafe:latest"}, false},
	{11, []string{"REG.Example/app:LATEST"}, false},
	{12, nil, false},
}

// names of the table; what stands in braces is the hash of that day's image.
var names = []string{
	"lab/app", "lab/app:1", "lab/app:2", "lab/app:3", "lab/app:latest", "docker.io/lab/app:1", "index.docker.io/lab/app",
	"alpine:3.22", "alpine", "library/alpine:3.22", "docker.io/library/alpine:3.22",
	"registry.example:5000/lab/app", "registry.example:5000/lab/app:1", "registry.example:5000/lab/app:2",
	"registry.example:5000", "registry.example:5001/lab/app",
	"lab/written:1", "docker.io/lab/written:1",
	"lab/app@sha256:{m3}", "lab/app:1@sha256:{m3}", "other/name@sha256:{m3}", "lab/app:1@sha256:{m99}", "lab/app@sha256:{3}",
	"sha256:{3}", "{3}", "sha256:{m3}", "{m3}", "sha256:{99}", "{99}",
	"sha256:030303030303", "030303030303", "sha256:03030303030", "03030303030", "sha256:0303030303030303", "sha256:999999999999",
	"sha256:0A0A0A0A0A0A", "{3}0", "sha256:{3}0", "030303030303:1",
	"sha256", "sha", "s", "%", "sha256:%", "sha256:latest", "sha256:1",
	"deadbeefcafe", "deadbeefcafe:latest", "DEADBEEFCAFE",
	"app:" + tag128, "app:" + tag128 + "t",
	"REG.Example/app:LATEST", "reg.example/app:LATEST", "REG.Example/app:latest", "Lab/App:1", "lab/app:LATEST",
	"{pdh3}", "{pdh3}+Kzzzzz", "{pdh99}", "d41d8cd98f00b204e9800998ecf8427e+0", "{md53}",
	"zzzzz-4zz18-000000000000002", "", " lab/app:1", "lab/app:", "lab/app:1:2", "https://registry.example/lab/app", "user:secret@registry.example/app",
}

type namesSuite struct{ fixture }

var _ = check.Suite(&namesSuite{})

func (s *namesSuite) fill() {
	for _, t := range stored {
		made := day(t.day)
		if t.legacy {
			s.cl.addLegacy(alice, hexOf(t.day), made, t.names...)
			continue
		}
		p := Properties{Hash: "sha256:" + hexOf(t.day), RepoTags: t.names, Timestamp: made, Digests: []string{"sha256:" + hexOf(t.day+50)}}
		s.cl.addNamed(alice, hexOf(t.day), p)
		s.cl.addLinks(alice, p)
	}
}

// addNamed makes a collection that passes as an image.
func (cl *cluster) addNamed(owner, hex string, p Properties) string {
	return cl.add(owner, ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:sha256\\072"+hex+".tar\n", p.Map())
}

// addLinks says of the newest collection what Properties.Links says.
func (cl *cluster) addLinks(owner string, p Properties) {
	coll := cl.collections[len(cl.collections)-1]
	for _, link := range p.Links() {
		link.OwnerUUID, link.HeadUUID, link.CreatedAt = owner, coll.UUID, coll.CreatedAt
		cl.links = append(cl.links, link)
	}
}

// addLegacy stores an image as today's arv-keepdocker does.
func (cl *cluster) addLegacy(owner, hex string, made time.Time, names ...string) string {
	uuid := cl.add(owner, ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:sha256\\072"+hex+".tar\n", map[string]interface{}{KeyRepoTag: names[0]})
	cl.addLinks(owner, Properties{Hash: "sha256:" + hex, RepoTags: names, Timestamp: made})
	return uuid
}

func (s *namesSuite) expand(name string) string {
	for day := 1; day < 100; day++ {
		pdh := strings.Repeat("f", 32) + "+99"
		if day <= len(s.cl.collections) {
			pdh = s.cl.collections[day-1].PortableDataHash
		}
		name = strings.NewReplacer(
			fmt.Sprintf("{%d}", day), hexOf(day), fmt.Sprintf("{m%d}", day), hexOf((day+50)%100),
			fmt.Sprintf("{pdh%d}", day), pdh, fmt.Sprintf("{md5%d}", day), pdh[:32]).Replace(name)
	}
	return name
}

// What each name means to us, and to an API server of today.
func (s *namesSuite) TestGolden(c *check.C) {
	s.fill()
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "NAME\tRESOLVE\tRAILSAPI\n")
	for _, name := range names {
		full := s.expand(name)
		ours := ""
		found, err := Resolve(s.ctx, s.cl, full, Policy{Links: true})
		var failed *fault.Error
		if errors.As(err, &failed) {
			ours = failed.Err.Error()
			c.Check(failed.Side, check.Equals, fault.Request)
			c.Check(failed.Hint, check.Not(check.Equals), "")
			c.Check(strings.Contains(err.Error(), "user:secret"), check.Equals, false)
		} else {
			ours = label(found.ManifestText)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", strings.ReplaceAll(fmt.Sprintf("%q", name), tag128, "<128 t>"), ours, s.stock(full))
	}
	w.Flush()
	const file = "testdata/names"
	if *update {
		c.Assert(os.MkdirAll("testdata", 0777), check.IsNil)
		c.Assert(os.WriteFile(file, []byte(table.String()), 0666), check.IsNil)
	}
	want, err := os.ReadFile(file)
	c.Assert(err, check.IsNil)
	c.Check(table.String(), check.Equals, string(want))
}

// label names an image of the table by its day.
func label(manifest string) string {
	day := regexp.MustCompile(`sha256\\072(\d\d)`).FindStringSubmatch(manifest)[1]
	return "image " + strings.TrimPrefix(day, "0")
}

// stock is the answer of RailsAPI, as docker-image resolution is known to work
// there: by links alone, cut at the first colon, any hash that begins so.
func (s *namesSuite) stock(name string) string {
	answer := func(coll arvados.Collection) string { return label(coll.ManifestText) }
	if m := regexp.MustCompile(`^([0-9a-f]{32}(\+[0-9]+)?)(\+[A-Z][-A-Za-z0-9@_]*)*$`).FindStringSubmatch(name); m != nil {
		for _, coll := range s.cl.collections {
			if coll.PortableDataHash == m[1] {
				return answer(coll)
			}
		}
		return "not found"
	}
	if strings.TrimSpace(name) == "" {
		return "can't be blank"
	}
	repo, tag, tagged := strings.Cut(name, ":")
	if !tagged {
		tag = "latest"
	}
	like := regexp.MustCompile(`^` + strings.NewReplacer("%", ".*", "_", ".").Replace(regexp.QuoteMeta(repo)))
	var named, hashed []arvados.Link
	for _, link := range s.cl.links {
		if link.LinkClass == LinkName && link.Name == repo+":"+tag {
			named = append(named, link)
		} else if link.LinkClass == LinkHash && like.MatchString(link.Name) {
			hashed = append(hashed, link)
		}
	}
	if len(named) == 0 {
		named = hashed
	}
	if len(named) == 0 {
		return "not found"
	}
	newest := slices.MaxFunc(named, func(a, b arvados.Link) int {
		return timeOf(a.Properties[LinkTime]).Compare(timeOf(b.Properties[LinkTime]))
	})
	return answer(s.cl.collections[slices.IndexFunc(s.cl.collections, func(coll arvados.Collection) bool { return coll.UUID == newest.HeadUUID })])
}

// The table is the same without links for images that have the properties.
func (s *namesSuite) TestWithoutLinks(c *check.C) {
	s.fill()
	for name, want := range map[string]string{
		"lab/app:1": "image 2", "registry.example:5000/lab/app": "image 5", "sha256:" + hexOf(2): "image 2", hexOf(12)[:12]: "image 12",
	} {
		found, err := Resolve(s.ctx, s.cl, name, Policy{})
		c.Assert(err, check.IsNil, check.Commentf(name))
		c.Check(label(found.ManifestText), check.Equals, want)
	}
	_, err := Resolve(s.ctx, s.cl, "docker.io/lab/written:1", Policy{})
	c.Check(errors.Is(err, ErrNotFound), check.Equals, true)
}

// FuzzResolve: no text is too odd for a name; it means an image, or the error
// says what to change.
func FuzzResolve(f *testing.F) {
	for _, name := range names {
		f.Add(name)
	}
	s := &namesSuite{}
	s.SetUpTest(nil)
	s.fill()
	f.Fuzz(func(t *testing.T, name string) {
		found, err := Resolve(context.Background(), s.cl, name, Policy{Links: true})
		var failed *fault.Error
		if err == nil && found.UUID == "" || err != nil && (!errors.As(err, &failed) || failed.Side != fault.Request || failed.Hint == "") {
			t.Fatalf("%q: %+v, %v", name, found, err)
		}
	})
}
