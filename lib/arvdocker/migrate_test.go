// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"gopkg.in/check.v1"
)

type migrateSuite struct {
	fixture
	admin *arvados.Client
	owner string // of images and links
}

var _ = check.Suite(&migrateSuite{})

// SetUpTest makes the user an administrator, and another one the owner of images.
func (s *migrateSuite) SetUpTest(c *check.C) {
	s.fixture.SetUpTest(c)
	s.admin = s.UserClient(localcluster.Admin)
	var user, admin arvados.User
	c.Assert(s.user.RequestAndDecode(&user, "GET", "arvados/v1/users/current", nil, nil), check.IsNil)
	c.Assert(s.admin.RequestAndDecode(&admin, "GET", "arvados/v1/users/current", nil, nil), check.IsNil)
	s.owner = admin.UUID
	c.Assert(s.admin.RequestAndDecode(nil, "PATCH", "arvados/v1/users/"+user.UUID, nil, attrs{"user": attrs{"is_admin": true}}), check.IsNil)
}

// linked stores an image as arv-keepdocker does, with a name by a property at most,
// and further ones by links.
func (s *migrateSuite) linked(c *check.C, n int, properties attrs, names ...string) string {
	hash := "sha256:" + strings.Repeat(fmt.Sprintf("%04x", n), 16)
	var coll arvados.Collection
	c.Assert(s.admin.RequestAndDecode(&coll, "POST", "arvados/v1/collections", nil, attrs{"collection": attrs{
		"manifest_text": ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:" + strings.ReplaceAll(hash, ":", `\072`) + ".tar\n", "properties": properties,
	}}), check.IsNil)
	said := attrs{"image_timestamp": time.Date(2024, 1, 1, 0, 0, n, 0, time.UTC).Format(time.RFC3339Nano)}
	s.addLink(c, linkHash, hash, coll.UUID, said)
	for _, name := range names {
		s.addLink(c, linkName, name, coll.UUID, said)
	}
	return coll.UUID
}

func (s *migrateSuite) addLink(c *check.C, class, name, head string, properties attrs) {
	c.Assert(s.admin.RequestAndDecode(nil, "POST", "arvados/v1/links", nil, attrs{"link": attrs{
		"link_class": class, "name": name, "head_uuid": head, "properties": properties,
	}}), check.IsNil)
}

// properties are those of all collections, as the server has them.
func (s *migrateSuite) properties(c *check.C) string {
	var list struct{ Items []json.RawMessage }
	c.Assert(s.admin.RequestAndDecode(&list, "GET", "arvados/v1/collections", nil, attrs{
		"select": []string{"uuid", "properties"}, "order": "uuid", "limit": 1000,
	}), check.IsNil)
	buf, err := json.MarshalIndent(list.Items, "", " ")
	c.Assert(err, check.IsNil)
	return string(buf)
}

// means is the collection that a name means by properties alone.
func (s *migrateSuite) means(name string) string {
	found, _ := dockerimage.Resolve(s.ctx, s.admin, name, dockerimage.Policy{})
	return found.UUID
}

func (s *migrateSuite) TestMigrate(c *check.C) {
	dir := c.MkDir()
	undo := "--rollback-file=" + filepath.Join(dir, "rollback")
	first := s.linked(c, 1, attrs{keyRepoTag: "lab/app:1", "n": json.RawMessage(`1234567890123456789`)}, "lab/app:1")
	second := s.linked(c, 2, attrs{keyRepoTag: nil}, "lab/app:1", "docker.io/lab/app:2", "Lab/App:3")
	s.addLink(c, linkName, "lab/app:9", "d41d8cd98f00b204e9800998ecf8427e+0", attrs{})
	original := s.properties(c)
	c.Check(s.means("lab/app:1"), check.Equals, first)

	dry := s.run(c, "migrate", "--dry-run")
	c.Check(s.properties(c), check.Equals, original)
	before := s.callWith(c, call{}, "migrate", "--verify")
	c.Check(before.code, check.Equals, 1)
	report := filepath.Join(dir, "report")
	wet := s.run(c, "migrate", undo, "--report", report, "--resume", filepath.Join(dir, "resume"))
	_, err := os.Stat(filepath.Join(dir, "resume"))
	c.Check(os.IsNotExist(err), check.Equals, true)
	lines, err := os.ReadFile(report)
	c.Assert(err, check.IsNil)
	c.Check(strings.Count(string(lines), "\n"), check.Equals, 3)
	c.Check(string(lines), check.Matches, `(?s).*"collection":"`+second+`","owner":"[^"]*","action":"written","names":\["lab/app:2","lab/app:1"\].*`)
	c.Check(s.means("lab/app:1"), check.Equals, second)
	c.Check(s.means("lab/app:2"), check.Equals, second)
	properties := s.collection(c, first).Properties
	c.Check(fmt.Sprintf("%.0f", properties["n"]), check.Equals, "1234567890123456768") // a float64; see the rollback
	c.Check(properties["docker-image-timestamp"], check.Equals, "2024-01-01T00:00:01Z")

	s.asked()
	again := s.run(c, "migrate", undo)
	for _, request := range s.asked() {
		c.Check(strings.Contains(request, "PATCH"), check.Equals, false)
	}
	after := s.run(c, "migrate", "--verify")
	migrated := s.properties(c)
	would := s.run(c, "migrate", "--rollback", "--dry-run", undo)
	c.Check(s.properties(c), check.Equals, migrated)
	back := s.run(c, "migrate", "--rollback", undo)
	c.Check(s.properties(c), check.Equals, original)
	undone := filepath.Join(dir, "undone")
	twice := s.run(c, "migrate", "--rollback", undo, "--rate=1000", "--report", undone)
	lines, err = os.ReadFile(undone)
	c.Assert(err, check.IsNil)
	c.Check(string(lines), check.Matches, `(\{"collection":"[^"]*","action":"unchanged"\}\n){2}`)
	golden(c, "migrate", "# --dry-run\n", dry.out, "# --verify\n", before.out, before.err, "# migrate\n", wet.out,
		"# again\n", again.out, "# --verify\n", after.out, "# --rollback --dry-run\n", would.out, "# --rollback\n", back.out, "# again\n", twice.out)
}

// Names by others can be left out, which explains that they are not found.
func (s *migrateSuite) TestOwnNamesOnly(c *check.C) {
	uuid := s.linked(c, 1, nil, "lab/app:1")
	s.foreign(c, "lab/app:2", uuid)
	s.run(c, "migrate", "--own-names-only", "--rollback-file", filepath.Join(c.MkDir(), "rollback"))
	c.Check(s.means("lab/app:1"), check.Equals, uuid)
	c.Check(s.means("lab/app:2"), check.Equals, "")
	c.Check(s.run(c, "migrate", "--verify", "--own-names-only").out, check.Matches, `(?s)"lab/app:2": not-own, .*`)
	all := s.callWith(c, call{}, "migrate", "--verify")
	c.Check(all.code, check.Equals, 1)
	c.Check(all.out, check.Matches, `(?s)"lab/app:2": unexplained, .*`)
}

// A server that is busy is asked again.
func (s *migrateSuite) TestBusy(c *check.C) {
	uuid := s.linked(c, 1, nil, "lab/app:1")
	var times atomic.Int32
	s.refuse = func(r *http.Request) int {
		if r.Method == http.MethodPatch && times.Add(1) < 3 {
			return []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}[times.Load()%2]
		}
		return 0
	}
	s.run(c, "migrate", "--rollback-file", filepath.Join(c.MkDir(), "rollback"))
	c.Check(times.Load(), check.Equals, int32(3))
	c.Check(s.means("lab/app:1"), check.Equals, uuid)
}

func (s *migrateSuite) TestRefusedCalls(c *check.C) {
	dir := c.MkDir()
	elsewhere := filepath.Join(dir, "elsewhere")
	c.Assert(os.WriteFile(elsewhere, []byte(`{"server":"other.example","after":"zzzzz-4zz18-000000000000001"}`), 0600), check.IsNil)
	for _, trial := range []struct {
		args string
		want string
	}{
		{"--resume=" + elsewhere, "--resume: .*elsewhere is about other.example, not about .* (name another file)"},
		{"--parallel=0", "--parallel: the number is out of range (write a number from 1 to 64)"},
		{"--rate=-1", "--rate: the number is out of range"},
		{"--dry-run --verify", "--verify: it has no meaning with --dry-run (leave one of them out)"},
		{"--dry-run --rollback-file=x", "--rollback-file: it has no meaning with --dry-run"},
		{"--dry-run --rollback --rate=1", "--rate: it has no meaning with --dry-run"},
		{"--verify --deep", "--deep: it has no meaning with --verify"},
		{"--rollback --resume=x", "--resume: it has no meaning with --rollback"},
		{"--rollback --rollback-file=" + dir + "/none", "request: open rollback file: .*none: no such file or directory (name the file that arv-docker migrate or sync has written)"},
		{"--rollback-file=" + dir, "request: open rollback file: .*is a directory (name a file that can be written)"},
		{"--dry-run --report=" + dir, "--report: .*is a directory (name a file that can be written)"},
	} {
		a := s.callWith(c, call{}, append([]string{"migrate"}, strings.Fields(trial.args)...)...)
		c.Check(a.code, check.Equals, 1)
		pattern := strings.NewReplacer("(", `\(`, ")", `\)`).Replace(trial.want)
		c.Check(a.err, check.Matches, `(?s)arv-docker: .*`+pattern+`.*`, check.Commentf("%s", trial.args))
	}
	user, err := s.currentUser()
	c.Assert(err, check.IsNil)
	c.Assert(s.admin.RequestAndDecode(nil, "PATCH", "arvados/v1/users/"+user.UUID, nil, attrs{"user": attrs{"is_admin": false}}), check.IsNil)
	a := s.callWith(c, call{}, "migrate", "--dry-run")
	c.Check(a.code, check.Equals, 1)
	c.Check(a.err, check.Matches, `arv-docker: request: check ARVADOS_API_TOKEN: it is that of .*, who is no administrator \(use an administrator's token: .*\)\n`)
}

func (s *migrateSuite) currentUser() (user arvados.User, err error) {
	err = s.user.RequestAndDecode(&user, "GET", "arvados/v1/users/current", nil, nil)
	return user, err
}

// A strict vocabulary: what to add to it is said before anything is written.
func (s *migrateSuite) TestVocabulary(c *check.C) {
	s.linked(c, 1, nil, "lab/app:1")
	d := &doctorSuite{}
	d.Cluster = s.Cluster
	client, closeServer := d.changed(c, map[string]http.HandlerFunc{"vocabulary": func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"strict_tags":true,"tags":{"docker-image-hash":{"strict":false}}}`)
	}})
	defer closeServer()
	a := s.callWith(c, call{api: client}, "migrate", "--dry-run")
	c.Check(a.code, check.Equals, 0)
	c.Check(a.err, check.Matches, `the vocabulary is strict: .*\(API\.VocabularyPath\)\n  "docker-image-timestamp": \{.*\}\n`)
}

// A database would take what a strict vocabulary refuses: it is not opened before
// that is known.
func (s *migrateSuite) TestVocabularyUnknown(c *check.C) {
	d := &doctorSuite{}
	d.Cluster = s.Cluster
	client, closeServer := d.changed(c, map[string]http.HandlerFunc{"vocabulary": refuses})
	defer closeServer()
	a := s.callWith(c, call{api: client}, "migrate", "--sql=host=/nowhere", "--rollback-file", filepath.Join(c.MkDir(), "rollback"))
	c.Check(a.code, check.Equals, 1)
	c.Check(a.err, check.Matches, `arv-docker: api: GET vocabulary .*403 Forbidden.*\n`)
	a = s.callWith(c, call{api: client}, "migrate", "--sql=host=/nowhere", "--dry-run")
	c.Check(a.code, check.Equals, 1)
	c.Check(a.err, check.Matches, `arv-docker: api: GET vocabulary .*403 Forbidden.*\n`)
	// An API server says so when it refuses something.
	s.linked(c, 1, nil, "lab/app:1")
	a = s.callWith(c, call{api: client}, "migrate", "--dry-run")
	c.Check(a.code, check.Equals, 0)
	c.Check(a.out, check.Matches, `(?s).*collections to be written: 1, .*`)
	c.Check(a.err, check.Equals, "the server shows no vocabulary: it may turn out strict when properties are written\n")
}

// What others have written does nothing to a terminal.
func (s *migrateSuite) TestHarmless(c *check.C) {
	s.addLink(c, linkName, "lab/\x1b[2J:1", s.linked(c, 1, attrs{keyRepoTag: "lab/\x1b[3J:1"}), attrs{})
	s.addLink(c, linkName, "lab/app:1", "\x1b]0;ha\a", attrs{})
	dry := s.run(c, "migrate", "--dry-run")
	c.Check(dry.out, check.Matches, `(?s).*"\\x1b\]0;ha\\a": head-is-other\n.*`)
	c.Check(dry.out, check.Matches, `(?s).*: bad-name "lab/\\x1b\[2J:1"\n.*`)
	verified := s.callWith(c, call{}, "migrate", "--verify")
	c.Check(strings.ContainsAny(dry.out+dry.err+verified.out+verified.err, "\x1b\a"), check.Equals, false)
}

// Killed at 50 random points, it ends as if it had not been; and all can be undone.
func (s *migrateSuite) TestKilled(c *check.C) {
	dir := c.MkDir()
	for n := range 60 {
		s.linked(c, n, attrs{"mine": n}, fmt.Sprintf("lab/app%d:1", n%9), fmt.Sprintf("docker.io/lab/other:%d", n))
	}
	original := s.properties(c)
	undo := "--rollback-file=" + filepath.Join(dir, "rollback")
	s.run(c, "migrate", undo)
	want := s.properties(c)
	s.run(c, "migrate", "--rollback", undo)
	c.Assert(s.properties(c), check.Equals, original)

	rng := rand.New(rand.NewPCG(9, 9))
	kills, midway, rounds := 0, 0, 0
	for ; kills < 50; rounds++ {
		c.Assert(rounds < 100, check.Equals, true)
		log := undo + fmt.Sprint(rounds)
		// So slow, it says after every 25 images how far it has come.
		more, gone := s.killUntilDone(c, rng, 50-kills, filepath.Join(dir, "resume"), log, "--rate=25", "--parallel=3")
		kills, midway = kills+more, midway+gone
		c.Assert(s.properties(c), check.Equals, want, check.Commentf("after %d kills", kills))
		s.run(c, "migrate", "--rollback", log)
		c.Assert(s.properties(c), check.Equals, original, check.Commentf("after %d kills", kills))
	}
	c.Logf("killed %d times in %d migrations, gone on from the middle: %d", kills, rounds, midway)
	c.Check(midway > 0, check.Equals, true)
}
