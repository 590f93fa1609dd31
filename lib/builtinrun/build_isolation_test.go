// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"gopkg.in/check.v1"
)

// shell is the start of a recipe of steps that need a shell.
const shell = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\n"

// steps are a build context with a shell, and steps that use it.
func (s *buildSuite) steps(c *check.C, text string) attrs {
	mounts := s.busybox(c)
	mounts["/src/Dockerfile"] = attrs{"kind": "text", "content": shell + text}
	return mounts
}

// A step that allocates more than the request's RAM dies, with a word about
// memory; the node and its engine live.
func (s *buildSuite) TestStepNeedsTooMuchMemory(c *check.C) {
	s.setSite(c, "builder: private")
	e := s.build(c, []string{"/src"}, s.steps(c, "RUN busybox dd if=/dev/zero of=/dev/null bs=600M count=1\n"),
		attrs{"runtime_constraints": attrs{"vcpus": 1, "ram": 256 << 20, "API": true}})
	c.Check(e.exit, check.Equals, 1.0)
	c.Check(e.problem, check.Matches, `(?s)build: Dockerfile line 4: RUN .*exit code 137.*memory.*`)
	c.Check(len(s.docker(c, "version", "--format", "{{.Server.Version}}")), check.Equals, 1)
}

func (s *buildSuite) TestPrivateBuilder(c *check.C) {
	own := s.ok(c, s.build(c, []string{"/src"}, s.steps(c, "RUN echo one > /one\n"), nil))
	s.setSite(c, "builder: private")
	e := s.build(c, []string{"--no-cache", "/src"}, s.steps(c, "RUN echo one > /one\n"), nil)
	private := s.ok(c, e)
	c.Check(private.Key, check.Equals, own.Key)
	c.Check(s.containers(c), check.HasLen, 0)
	upon := s.build(c, nil, attrs{"/Dockerfile": text("FROM local/one\nRUN busybox cat /one\n")}, nil)
	c.Check(upon.problem, check.Matches, `(?s).*local/one.*`) // it got no name
	s.ok(c, s.build(c, []string{"--no-cache", "-t", "local/one", "/src"}, s.steps(c, "RUN echo one > /one\n"), nil))
	s.ok(c, s.build(c, nil, attrs{"/Dockerfile": text("FROM local/one\nRUN busybox cat /one\n")}, nil))
}

// containers are those on the engine that belong to builds of this cluster.
func (s *buildSuite) containers(c *check.C) (found []string) {
	for _, name := range s.docker(c, "ps", "-a", "--format", "{{.Image}}") {
		if strings.HasPrefix(name, "arvados-builtin/"+s.ClusterID+"-") {
			found = append(found, name)
		}
	}
	return found
}

// What the builder fetches for ADD it fetches as the user: not from the node's
// loopback, whichever builder the site has chosen.
func (s *buildSuite) TestLoopbackIsOutOfReach(c *check.C) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1) }))
	defer server.Close()
	for _, builder := range []string{"engine", "private"} {
		s.setSite(c, "builder: "+builder)
		e := s.build(c, nil, attrs{"/Dockerfile": text("FROM scratch\nADD " + server.URL + "/secrets /\n")}, nil)
		c.Check(e.exit, check.Equals, 1.0, check.Commentf("%v", e.problem))
		c.Check(e.problem, check.Matches, `(?s).*ADD .*/secrets.*`)
		c.Check(e.output, check.IsNil)
	}
	c.Check(asked.Load(), check.Equals, int32(0))
}

// A signal in the middle of a step: nothing of it is left when crunch-run goes.
func (s *buildSuite) TestStoppedInAStep(c *check.C) {
	for _, builder := range []string{"engine", "private"} {
		s.setSite(c, "builder: "+builder)
		step := newSleep(c)
		r, stop := s.beginStep(c, step)
		defer stop(nil)
		at := r.until(c, "the step runs", step.runs)
		stop(errors.New("caught signal: terminated"))
		e := r.end(c)
		took := e.at.Sub(at).Seconds()
		c.Logf("a signal in a step, builder %s: after %.1f s, %v", builder, took, e)
		c.Check(took < tooLong, check.Equals, true, check.Commentf(builder))
		c.Check(e.ctr.State, check.Equals, arvados.ContainerStateCancelled)
		s.checkGone(c, e, step)
	}
}

// beginStep begins a build that comes to that step.
func (s *buildSuite) beginStep(c *check.C, step sleep) (*running, context.CancelCauseFunc) {
	mounts := s.steps(c, "RUN "+string(step)+"\n")
	mounts["/out"] = attrs{"kind": "tmp"}
	cr := s.submit(c, []string{"docker", "build", "/src"}, attrs{"mounts": mounts})
	ctx, stop := context.WithCancelCause(context.Background())
	return s.begin(ctx, c, cr, s.site), stop
}

// checkGone: crunch-run goes when the work is done, and nothing of it is left then.
// If it could not wait so long, its log says so, and the rest goes later.
func (s *buildSuite) checkGone(c *check.C, e ending, step sleep) {
	gone := func() bool { return !step.runs() && len(s.containers(c)) == 0 }
	end := e.at
	if strings.Contains(e.logs["crunch-run.txt"], "the work is not done") {
		end = e.at.Add(time.Minute)
	}
	for !gone() && time.Now().Before(end) {
		time.Sleep(50 * time.Millisecond)
	}
	c.Check(step.runs(), check.Equals, false, check.Commentf("%s", e.why()))
	c.Check(s.containers(c), check.HasLen, 0, check.Commentf("%s", e.why()))
}

// The recipe and its context decide the content key, and nothing else: users of
// cwltool complain both that an edited recipe was not built again and that an
// unchanged one always was.
func (s *buildSuite) TestContentKey(c *check.C) {
	unused := 0
	build := func(words []string, file, content string, changes attrs) dockerimage.Properties {
		unused++
		mounts := attrs{"/Dockerfile": text(content), "/file": text(file), "/README": text(fmt.Sprint("not copied ", unused))}
		return s.ok(c, s.build(c, words, mounts, changes))
	}
	recipe := "FROM scratch\nARG A=1\nCOPY file /\n"
	first := build(nil, "x", recipe, nil)
	for what, same := range map[string]dockerimage.Properties{
		"nothing":     build(nil, "x", recipe, nil),
		"a comment":   build(nil, "x", "# why\n"+recipe, nil),
		"a name":      build([]string{"-t", "other:1"}, "x", recipe, nil),
		"undeclared":  build([]string{"--build-arg", "B=2"}, "x", recipe, nil),
		"environment": build(nil, "x", recipe, attrs{"environment": attrs{"HOME": "/x", "TMPDIR": "/tmp"}}),
	} {
		c.Check(same.Key, check.Equals, first.Key, check.Commentf(what))
		c.Check(same.PDH, check.Equals, first.PDH, check.Commentf(what))
	}
	keys := map[string]string{first.Key: "the first"}
	for what, other := range map[string]dockerimage.Properties{
		"a file":        build(nil, "y", recipe, nil),
		"the recipe":    build(nil, "x", recipe+"ENV X=1\n", nil),
		"a build arg":   build([]string{"--build-arg", "A=2"}, "x", recipe, nil),
		"environment":   build(nil, "x", recipe, attrs{"environment": attrs{"A": "3"}}),
		"a label":       build([]string{"--label", "a=b"}, "x", recipe, nil),
		"the network":   build([]string{"--network", "none"}, "x", recipe, nil),
		"an exclusion":  build(nil, "x", strings.Replace(recipe, "file", "Dockerfile", 1), nil),
		"the secret id": build([]string{"--secret", "id=a,src=/a"}, "x", recipe, attrs{"secret_mounts": attrs{"/a": attrs{"kind": "text", "content": "a"}}}),
	} {
		c.Check(keys[other.Key], check.Equals, "", check.Commentf("%s gives the same key", what))
		keys[other.Key] = what
	}
}

// --no-cache builds again what was built before.
func (s *buildSuite) TestNoCache(c *check.C) {
	mounts := func() attrs { return attrs{"/Dockerfile": text(works)} }
	s.ok(c, s.build(c, nil, mounts(), nil))
	e := s.build(c, []string{"--no-cache"}, mounts(), nil)
	s.ok(c, e)
	c.Check(strings.Contains(e.logs["stdout.txt"], "built before"), check.Equals, false)
}

// An image that only a trigger of another one names would be fetched by the
// engine, by its own rules.
func (s *buildSuite) TestTriggersOfTheBase(c *check.C) {
	s.ok(c, s.build(c, []string{"-t", "local/trigger:1", "/src"}, s.steps(c, "ONBUILD RUN echo triggered > /triggered\n"), nil))
	e := s.build(c, nil, attrs{"/Dockerfile": text("FROM local/trigger:1\nRUN busybox cat /triggered\n")}, nil)
	s.ok(c, e)
	s.ok(c, s.build(c, []string{"-t", "local/trigger:2", "/src"}, s.steps(c, "ONBUILD COPY --from=169.254.169.254/evil:1 /a /\n"), nil))
	e = s.build(c, nil, attrs{"/Dockerfile": text("FROM local/trigger:2\n")}, nil)
	c.Check(e.exit, check.Equals, 2.0)
	c.Check(e.problem, check.Matches, `request: check Dockerfile line 1: an ONBUILD trigger of the image local/trigger:2 takes something from the image 169.254.169.254/evil:1 .*`)
}

// Of two images of one name, for two platforms, the triggers of both count: the
// engine itself fetches what a trigger adds.
func (s *buildSuite) TestTriggersOfTwoPlatforms(c *check.C) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1) }))
	defer server.Close()
	s.registry.PushIndex("evil:1",
		registrytest.Entry{Platform: "linux/amd64", Image: withTrigger(c, "amd64", "ADD "+server.URL+"/secrets /x")},
		registrytest.Entry{Platform: "linux/arm64", Image: withTrigger(c, "arm64", "LABEL a=b")})
	evil := s.registry.Host() + "/evil:1"
	e := s.build(c, nil, attrs{"/Dockerfile": text("FROM --platform=linux/amd64 " + evil + " AS o\nFROM --platform=linux/arm64 " + evil + "\nCOPY --from=o / /o/\n")}, nil)
	c.Check(e.output, check.IsNil)
	c.Check(e.problem, check.Not(check.Equals), "")
	c.Check(asked.Load(), check.Equals, int32(0))
}

// withTrigger is an image that has an ONBUILD trigger.
func withTrigger(c *check.C, arch, trigger string) imagetar.Image {
	img := randomimage.New(3, mib)
	config := map[string]interface{}{}
	c.Assert(json.Unmarshal(img.Config, &config), check.IsNil)
	config["architecture"] = arch
	config["config"] = attrs{"OnBuild": []string{trigger}}
	img.Config, _ = json.Marshal(config)
	img.Manifest = nil
	layout, err := imagetar.NewLayout(img)
	c.Assert(err, check.IsNil)
	for _, member := range layout.Members {
		if member.Name == imagetar.BlobName(layout.ManifestDigest) {
			img.Manifest, img.ManifestMediaType = member.Content, "application/vnd.oci.image.manifest.v1+json"
		}
	}
	return img
}

// A digest in a property proves nothing: anybody can set it.
func (s *buildSuite) TestForgedDigest(c *check.C) {
	s.registry.Push("app:1", app)
	forged := s.ok(c, s.build(c, []string{"-t", s.registry.Host() + "/app:1", "/src"}, s.steps(c, "RUN echo evil > /evil\n"), nil))
	digest := "sha256:" + fmt.Sprintf("%x", sha256.Sum256(app.Manifest))
	name := s.registry.Host() + "/app:1@" + digest
	shared := s.sharedProject(c)
	properties := forged.Map()
	properties["arv:docker-image-digest"] = []string{digest}
	admin := s.UserClient(localcluster.Admin)
	var list arvados.CollectionList
	c.Assert(s.user.RequestAndDecode(&list, "GET", "arvados/v1/collections", nil, attrs{"filters": [][]string{{"portable_data_hash", "=", forged.PDH}}}), check.IsNil)
	c.Assert(admin.RequestAndDecode(nil, "PATCH", "arvados/v1/collections/"+list.Items[0].UUID, nil,
		attrs{"collection": attrs{"properties": properties, "owner_uuid": shared}}), check.IsNil)
	e := s.build(c, nil, attrs{"/Dockerfile": text("FROM " + name + "\nCOPY Dockerfile /\n")}, nil)
	c.Check(s.ok(c, e).Bases, check.DeepEquals, []dockerimage.Base{{Name: name, Hash: "sha256:" + fmt.Sprintf("%x", sha256.Sum256(app.Config))}})
	c.Check(e.logs["crunch-run.txt"], check.Matches, `(?s).*is not taken for .*its manifest does not have that digest.*`)
}

// sharedProject is a project of the admin's that everybody can read.
func (s *buildSuite) sharedProject(c *check.C) string {
	admin := s.UserClient(localcluster.Admin)
	var project arvados.Group
	c.Assert(admin.RequestAndDecode(&project, "POST", "arvados/v1/groups", nil, attrs{"group": attrs{"group_class": "project", "name": "shared"}}), check.IsNil)
	everybody := s.ClusterID + "-j7d0g-fffffffffffffff"
	c.Assert(s.root.RequestAndDecode(nil, "POST", "arvados/v1/links", nil, attrs{"link": attrs{
		"link_class": "permission", "name": "can_read", "tail_uuid": everybody, "head_uuid": project.UUID}}), check.IsNil)
	return project.UUID
}

// In a project, where others may write, the content key counts if a build of the
// user's has made the image.
func (s *buildSuite) TestContentKeyInAProject(c *check.C) {
	var project arvados.Group
	c.Assert(s.user.RequestAndDecode(&project, "POST", "arvados/v1/groups", nil, attrs{"group": attrs{"group_class": "project", "name": "images"}}), check.IsNil)
	build := func(recipe string) (ending, dockerimage.Properties) {
		e := s.build(c, nil, attrs{"/Dockerfile": text(recipe)}, attrs{"owner_uuid": project.UUID})
		return e, s.ok(c, e)
	}
	first, props := build(works)
	again, _ := build(works)
	c.Check(again.ctr.Output, check.Equals, first.ctr.Output)
	c.Check(again.logs["stdout.txt"], check.Matches, `(?s).*the same recipe was built before.*`)

	// The key of another recipe on the image of this one.
	other, otherProps := build(works + "LABEL other=yes\n")
	c.Assert(s.user.RequestAndDecode(nil, "DELETE", "arvados/v1/collections/"+other.cr.OutputUUID, nil, nil), check.IsNil)
	props.Key = otherProps.Key
	c.Assert(s.user.RequestAndDecode(nil, "PATCH", "arvados/v1/collections/"+first.cr.OutputUUID, nil,
		attrs{"collection": attrs{"properties": props.Map()}}), check.IsNil)
	third, _ := build(works + "LABEL other=yes\n")
	c.Check(strings.Contains(third.logs["stdout.txt"], "built before"), check.Equals, false)
	c.Check(third.ctr.Output, check.Not(check.Equals), first.ctr.Output)
}
