// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/keepfile"
	"gopkg.in/check.v1"
)

type lookupSuite struct{}

var _ = check.Suite(&lookupSuite{})

// byLinksOfOld is the answer of an API server of today, by the description of what
// it does: a search of links by the text before and after the first colon, and of
// all hashes that begin so; of several links to one collection the oldest counts.
// It does not share code with the package.
func byLinksOfOld(s *server, readable []string, name string) record {
	visible := func(r record) bool { return readable == nil || slices.Contains(readable, r.text("owner_uuid")) }
	usable := func(r record) bool {
		return visible(r) && r["is_trashed"] == false && r["current_version_uuid"] == r["uuid"]
	}
	v2 := regexp.MustCompile(`^sha256:[0-9A-Fa-f]{64}\.tar$`)
	compatible := func(r record) bool {
		files, _ := keepfile.ParseManifest(r.text("manifest_text"))
		return len(files) == 1 && v2.MatchString(path.Base(files[0].Path))
	}
	repo, tag, tagged := strings.Cut(name, ":")
	if !tagged {
		tag = "latest"
	}
	search := func(fits func(record) bool) []record {
		var found []record
		for _, link := range s.links {
			head := slices.IndexFunc(s.collections, func(r record) bool { return r["uuid"] == link["head_uuid"] })
			if head >= 0 && visible(link) && usable(s.collections[head]) && fits(link) {
				found = append(found, link)
			}
		}
		return found
	}
	links := search(func(l record) bool { return l["link_class"] == className && l["name"] == repo+":"+tag })
	if len(links) == 0 {
		like := regexp.MustCompile(`^` + strings.NewReplacer("%", ".*", "_", ".").Replace(regexp.QuoteMeta(repo)))
		links = search(func(l record) bool { return l["link_class"] == classHash && like.MatchString(l.text("name")) })
	}
	sort.SliceStable(links, func(i, j int) bool { return links[i].text("created_at") > links[j].text("created_at") })
	type rank struct{ made, created int64 }
	ranks := map[string]rank{}
	for _, link := range links { // later ones overwrite
		created, _ := time.Parse(time.RFC3339Nano, link.text("created_at"))
		r := rank{created: created.Unix()}
		said, _ := link["properties"].(record)[linkTime].(string)
		if made, err := time.Parse(time.RFC3339Nano, strings.Replace(said, " ", "T", 1)); err == nil {
			r.made = made.Unix()
		}
		ranks[link.text("head_uuid")] = r
	}
	var uuids []string
	for uuid := range ranks {
		uuids = append(uuids, uuid)
	}
	sort.Slice(uuids, func(i, j int) bool {
		a, b := ranks[uuids[i]], ranks[uuids[j]]
		if a.made != b.made {
			return a.made > b.made
		}
		return a.created > b.created
	})
	for _, uuid := range uuids {
		coll := s.get(uuid)
		if compatible(coll) {
			return coll
		}
		for i := len(s.links) - 1; i >= 0; i-- { // the newest first
			link := s.links[i]
			if link["link_class"] != classMigration || link["owner_uuid"] != system || link["tail_uuid"] != coll["portable_data_hash"] {
				continue
			}
			for _, other := range s.collections {
				if other["portable_data_hash"] == link["head_uuid"] && usable(other) && compatible(other) {
					return other
				}
			}
			break
		}
	}
	return nil
}

var (
	someNames = []string{"lab/app:1", "lab/app:2", "lab/app:latest", "alpine:3.22", "registry.example:5000/lab/app:1", "registry.example:5000/lab/app:latest",
		"docker.io/lab/app:1", "docker.io/library/alpine:3.22", "Lab/App:1", "<none>:<none>", "lab/app", "sha256:latest", "deadbeefcafe:latest",
		"lab/app@sha256:" + hexOf(77), "sha256:" + hexOf(1), "sha256:" + hexOf(78),
		"sha256:abc", "sha256:" + hexOf(2)[:20], "registry.example:5000/app"}
	someTimes = []interface{}{nil, "", "soon", "1970-01-01T00:00:00Z", "2023-03-01T00:00:00Z", "2023-03-01T00:00:00.5Z", "2023-04-01T00:00:00+02:00",
		"2023-05-01T00:00:00Z", "2023-06-01T00:00:00Z", "2023-07-01 00:00:00Z", "2999-01-01T00:00:00Z"}
	someOwners = []string{alice, bob, project}
)

// generate makes a cluster in which all that is awkward comes together.
func generate(rng *rand.Rand) *server {
	s := &server{groups: []record{{"uuid": project, "can_write": true, "owner_uuid": project}}}
	pick := func(list []string) string { return list[rng.IntN(len(list))] }
	for range 2 + rng.IntN(6) {
		n, owner := 1+rng.IntN(5), pick(someOwners)
		files := []string{"sha256:" + hexOf(n) + ".tar"}
		switch rng.IntN(20) {
		case 0:
			files = append(files, "README")
		case 1:
			files = []string{hexOf(n) + ".tar"}
		case 2:
			files = []string{"sha256:" + strings.Repeat("AB", 32) + ".tar"}
		}
		properties := record{}
		switch rng.IntN(12) {
		case 0:
			properties[keyNames] = nil
		case 1:
			properties[keyNames] = pick(someNames[:4])
		case 2:
			properties["docker-image-hash"] = "sha256:" + hexOf(9)
		case 3:
			properties[keyTimestamp] = "2023-02-01T00:00:00Z"
		case 4:
			properties["arv:docker-image-pdh"] = "d41d8cd98f00b204e9800998ecf8427e+0"
		case 5:
			properties["type"] = "output"
		}
		uuid := s.collection(owner, manifestOf(files...), properties)
		coll := s.get(uuid)
		switch rng.IntN(20) {
		case 0:
			coll["is_trashed"] = true
		case 1:
			coll["current_version_uuid"] = "zzzzz-4zz18-current00000000"
		case 2: // replaced by the image after it
			next := manifestOf("sha256:" + hexOf(n%5+1) + ".tar")
			s.link(system, classMigration, "migrate_1.9_1.10", "", nil)
			link := s.links[len(s.links)-1]
			link["tail_uuid"] = coll["portable_data_hash"]
			for _, other := range s.collections {
				if other["manifest_text"] == next {
					link["head_uuid"] = other["portable_data_hash"]
				}
			}
		}
		made := someTimes[rng.IntN(len(someTimes))]
		for range rng.IntN(3) {
			s.link(owner, classHash, strings.TrimSuffix(files[len(files)-1], ".tar"), uuid, made)
		}
		for range rng.IntN(5) {
			by, head, said := owner, uuid, made
			switch rng.IntN(12) {
			case 0:
				by = pick(someOwners)
			case 1:
				head = coll.text("portable_data_hash")
			case 2:
				head = "zzzzz-4zz18-gone00000000000"
			case 3:
				said = someTimes[rng.IntN(len(someTimes))]
			}
			s.link(by, className, pick(someNames), head, said)
		}
	}
	return s
}

// kindOf tells why the answers differ, "" if it cannot.
func kindOf(s *server, readable []string, name string, old record, new dockerimage.Resolved) string {
	_, invalid := imageref.Parse(name)
	sees := func(r record) bool { return readable == nil || slices.Contains(readable, r.text("owner_uuid")) }
	given := slices.ContainsFunc(s.links, func(l record) bool {
		at := slices.IndexFunc(s.collections, func(r record) bool { return r["uuid"] == l["head_uuid"] })
		return sees(l) && l["link_class"] == className && (l["name"] == name || l["name"] == name+":latest" && !strings.Contains(name, ":")) &&
			at >= 0 && sees(s.collections[at]) && s.collections[at]["is_trashed"] == false && s.collections[at]["current_version_uuid"] == l["head_uuid"]
	})
	switch {
	case old != nil && !given && !regexp.MustCompile(`[0-9a-f]{12}`).MatchString(name):
		return "a name that nobody has given is not the beginning of a hash"
	case regexp.MustCompile(`^(sha256(:[0-9a-f]{1,64})?|[0-9a-f]{12,64})$`).MatchString(name):
		// By links, any hash that begins like what is before the colon.
		hash, _ := new.Hash()
		if old != nil && new.UUID == "" && strings.Contains(old.text("manifest_text"), strings.TrimPrefix(name, "sha256:")) {
			break
		}
		if new.UUID != "" && !slices.Contains(new.Properties.Digests, name) && !strings.Contains(hash, strings.TrimPrefix(name, "sha256:")) {
			return ""
		}
		return "a hash means that image, not the newest of all"
	case invalid != nil:
		return "docker takes no such name"
	case !strings.Contains(name[strings.LastIndex(name, "/")+1:], ":") && (old == nil || strings.Contains(name, ":")):
		return "latest is meant where a registry has a port"
	}
	meant := meaning(name)
	// What each collection says now, and what links said of it to this reader.
	type view struct {
		links            []record
		hidden, spelling bool
	}
	views := map[string]*view{}
	for _, link := range s.links {
		if link["link_class"] != className {
			continue
		}
		if _, err := imageref.Parse(link.text("name")); err != nil || meaning(link.text("name")) != meant {
			continue
		}
		v := views[link.text("head_uuid")]
		if v == nil {
			v = &view{}
			views[link.text("head_uuid")] = v
		}
		switch {
		case !sees(link):
			v.hidden = true
		case link.text("name") != name && link.text("name") != name+":latest":
			v.spelling = true
		default:
			v.links = append(v.links, link)
		}
	}
	if old != nil {
		coll := s.get(old.text("uuid"))
		file, _, _ := strings.Cut(strings.SplitN(coll.text("manifest_text"), "0:0:", 2)[1], ".")
		properties, _ := coll["properties"].(record)
		switch {
		case strings.Contains(file, "AB"):
			return "what cannot be run is passed over"
		case properties["docker-image-hash"] == "sha256:"+hexOf(9) || properties["arv:docker-image-pdh"] != nil:
			return "what was changed since is passed over"
		case new.UUID == "":
			return ""
		case new.Found.ManifestText == coll.text("manifest_text"):
			return "another collection with the image"
		}
	}
	v := views[new.UUID]
	switch {
	case v == nil || len(v.links) == 0 && !v.hidden && !v.spelling:
		if slices.ContainsFunc(s.links, func(l record) bool { return l["head_uuid"] == new.PDH && l["link_class"] == classMigration }) {
			return "an image that replaces another is found by its old name at once"
		}
		return "a name that was in the property only is found"
	case len(v.links) == 0 && v.hidden:
		return "the collection's readers see names by links that they could not read"
	case len(v.links) == 0:
		return "spellings of one name are one name"
	case old == nil:
		return ""
	}
	if o := views[old.text("uuid")]; o == nil {
		return "an image that replaces another is found by its old name at once"
	}
	times := map[string]bool{}
	for _, uuid := range []string{new.UUID, old.text("uuid")} {
		said, _ := s.get(uuid)["properties"].(record)[keyTimestamp].(string)
		t, _ := time.Parse(time.RFC3339Nano, said)
		created, _ := time.Parse(time.RFC3339Nano, s.get(uuid).text("created_at"))
		if t.Year() <= 1980 {
			times["undated"] = true
		} else if t.After(created) {
			times["late"] = true
		}
		for _, link := range s.links {
			if link["head_uuid"] == uuid && fmt.Sprint(link["properties"].(record)[linkTime]) != said {
				times["differ"] = true
			}
		}
	}
	switch {
	case times["undated"]:
		return "without a time of its own, an image is as old as its collection"
	case times["late"]:
		return "no image was made after it was stored"
	case times["differ"]:
		return "one time for each collection, not one for each link"
	}
	return "what was made within a second is told apart"
}

// meaning is the same for two names that are one to docker.
func meaning(name string) string {
	ref, err := imageref.Parse(name)
	if err != nil || ref.Digest == "" {
		return ref.RepoTag()
	}
	return ref.Digest
}

// For each name and each reader, properties answer what links answered, but for
// what is meant to differ.
func (*lookupSuite) TestSameAnswers(c *check.C) {
	rng := rand.New(rand.NewPCG(4, 6))
	ctx := context.Background()
	readers := map[string][]string{"alice": {alice, project, system}, "bob": {bob, project, system}, "admin": nil}
	counts := map[string]int{}
	same, nothing := 0, 0
	rollback := rollbackFile(c)
	defer rollback.Close()
	for cluster := range 2000 {
		s := generate(rng)
		names := []string{"lab/app", "alpine", "registry.example:5000/lab/app", "sha256", "sha256:" + hexOf(3), hexOf(2)[:12], "lab/none:1"}
		for _, link := range s.links {
			if link["link_class"] == className {
				names = append(names, link.text("name"))
			}
		}
		slices.Sort(names)
		names = slices.Compact(names)
		summary, err := (&Migration{Store: ByAPI(&view{server: s}, 0), Rollback: rollback}).Run(ctx)
		c.Assert(err, check.IsNil)
		c.Assert(summary.Failed, check.Equals, 0)
		for who, readable := range readers {
			for _, name := range names {
				old := byLinksOfOld(s, readable, name)
				found, err := dockerimage.Resolve(ctx, &view{server: s, readable: readable}, name, dockerimage.Policy{})
				if found.UUID == "" {
					c.Assert(err, check.NotNil)
				}
				switch {
				case old == nil && found.UUID == "":
					nothing++
				case old != nil && old["portable_data_hash"] == found.PDH:
					same++
				default:
					kind := kindOf(s, readable, name, old, found)
					counts[kind]++
					if kind == "" {
						c.Fatalf("cluster %d, %s, %q: by links %v, by properties %v (%v)\n%s\n%v", cluster, who, name, old, found.Found, err, s.properties(c), s.links)
					}
				}
			}
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%6d the same image\n%6d likewise no image\n\n", same, nothing)
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&text, "%6d %s\n", counts[kind], kind)
	}
	golden(c, "differences", text.String())
}
