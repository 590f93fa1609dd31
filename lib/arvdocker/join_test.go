// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&joinSuite{})

// joinSuite is about several who ask for the same.
type joinSuite struct{ fixture }

// image pushes an image whose layer does not come before release is called.
func (s *joinSuite) image(c *check.C) (name string, release func()) {
	released := make(chan struct{})
	img := randomimage.New(1, 5*mib)
	s.registry.Push("lab/tool:1", img)
	s.registry.Always("/blobs/"+img.Layers[0].Digest, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		select {
		case <-released:
		case <-r.Context().Done():
		}
		serve(w, r)
	})
	return s.registry.Host() + "/lab/tool:1", sync.OnceFunc(func() { close(released) })
}

// requests are all of the user's, the oldest first.
func (s *joinSuite) requests(c *check.C) []arvados.ContainerRequest {
	var list arvados.ContainerRequestList
	c.Assert(s.user.RequestAndDecode(&list, "GET", "arvados/v1/container_requests", nil, attrs{"order": "created_at, uuid"}), check.IsNil)
	return list.Items
}

// onLine calls what is to be done when the program says something.
func onLine(start string, do func()) writerFunc {
	once := sync.OnceFunc(do)
	return func(text string) {
		if strings.HasPrefix(text, start) {
			once()
		}
	}
}

const underWayLine = "the same is under way already: "

// Who asks for what is under way already follows it.
func (s *joinSuite) TestJoin(c *check.C) {
	name, release := s.image(c)
	defer release()
	first := strings.TrimSpace(s.run(c, "pull", "--no-wait", name).out)
	c.Check(strings.TrimSpace(s.run(c, "pull", "--no-wait", name).out), check.Equals, first)
	a := s.callWith(c, call{err: onLine(underWayLine, release)}, "pull", name)
	c.Check(a.code, check.Equals, 0, check.Commentf("%s", a.err))
	c.Check(a.err, check.Matches, underWayLine+`container request `+first+`\n(?s).*`)
	c.Check(s.requests(c), check.HasLen, 1)
}

// Two who ask at the same time, so that neither sees the other's request before
// making one: the older one stays.
func (s *joinSuite) TestRace(c *check.C) {
	name, release := s.image(c)
	defer release()
	var arrived sync.WaitGroup
	arrived.Add(2)
	var both sync.WaitGroup
	answers := make([]answer, 2)
	for i := range answers {
		both.Add(1)
		go func() {
			defer both.Done()
			api := s.UserClient("user")
			api.Client = &http.Client{Transport: &meeting{at: &arrived, next: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}}
			answers[i] = s.callWith(c, call{api: api, err: onLine(underWayLine, release)}, "pull", name)
		}()
	}
	both.Wait()
	wanted := 0
	for _, cr := range s.requests(c) {
		if cr.Priority > 0 {
			wanted++
		}
	}
	c.Check(wanted, check.Equals, 1)
	for _, a := range answers {
		c.Check(a.code, check.Equals, 0, check.Commentf("%s", a.err))
	}
	c.Check(answers[0].out, check.Equals, answers[1].out)
}

// meeting lets a program's first look for equal requests be answered only when
// others have looked, too.
type meeting struct {
	at   *sync.WaitGroup
	next http.RoundTripper
	once sync.Once
}

func (m *meeting) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := m.next.RoundTrip(r)
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/container_requests") {
		m.once.Do(func() {
			m.at.Done()
			m.at.Wait()
		})
	}
	return resp, err
}

// Whoever follows the request of another program does not cancel it.
func (s *joinSuite) TestInterruptedWhileFollowing(c *check.C) {
	name, release := s.image(c)
	defer release()
	s.run(c, "pull", "--no-wait", name)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	a := s.callWith(c, call{ctx: ctx, err: onLine("container request ", cancel)}, "pull", name)
	c.Check(a.code, check.Equals, 130)
	c.Check(a.err, check.Matches, `(?s).*container request x\w{4}-xvhdp-\w{15} goes on: another program waits for it\narv-docker: interrupted\n`)
	all := s.requests(c)
	c.Assert(all, check.HasLen, 1)
	c.Check(all[0].Priority, check.Equals, usualPriority)
}

// When the request that is followed is cancelled, those who still want the image
// make one of their own.
func (s *joinSuite) TestGivenUp(c *check.C) {
	name, release := s.image(c)
	defer release()
	first := strings.TrimSpace(s.run(c, "pull", "--no-wait", name).out)
	a := s.callWith(c, call{err: onLine("container request "+first, func() {
		c.Check(s.user.RequestAndDecode(nil, "PUT", "arvados/v1/container_requests/"+first, nil,
			attrs{"container_request": attrs{"priority": 0}}), check.IsNil)
		release()
	})}, "pull", name)
	c.Check(a.code, check.Equals, 0, check.Commentf("%s", a.err))
	c.Check(a.err, check.Matches, `(?s)`+underWayLine+`container request `+first+`\n.*container request `+first+` was given up by whoever made it\n.*`)
	c.Check(s.requests(c), check.HasLen, 2)
}

// What is in a property counts for nothing if the request does something else.
func (s *joinSuite) TestForged(c *check.C) {
	name, release := s.image(c)
	defer release()
	first := strings.TrimSpace(s.run(c, "pull", "--no-wait", name).out)
	genuine := s.requests(c)[0]
	c.Assert(s.user.RequestAndDecode(nil, "PUT", "arvados/v1/container_requests/"+first, nil,
		attrs{"container_request": attrs{"priority": 0}}), check.IsNil)
	var forged arvados.ContainerRequest
	c.Assert(s.user.RequestAndDecode(&forged, "POST", "arvados/v1/container_requests", nil, attrs{"container_request": attrs{
		"state": "Committed", "priority": 1, "command": []string{"docker", "pull", s.registry.Host() + "/lab/other:1"},
		"container_image": genuine.ContainerImage, "mounts": attrs{"/out": attrs{"kind": "tmp", "capacity": scratch}}, "output_path": "/out",
		"runtime_constraints": attrs{"vcpus": 1, "ram": 1 << 28, "API": true}, "properties": genuine.Properties, "use_existing": false,
	}}), check.IsNil)
	c.Check(forged.Properties[keyRequest], check.Matches, `[0-9a-f]{64}`)
	second := strings.TrimSpace(s.run(c, "pull", "--no-wait", name).out)
	c.Check(second, check.Not(check.Equals), forged.UUID)
	c.Check(second, check.Not(check.Equals), first)
}

// Requests with secrets have no key, and nobody joins them.
func (s *joinSuite) TestSecrets(c *check.C) {
	name, release := s.image(c)
	defer release()
	credentials := filepath.Join(c.MkDir(), "config.json")
	c.Assert(os.WriteFile(credentials, []byte(`{"auths":{"registry.example":{"username":"me","password":"`+secretWord+`"}}}`), 0600), check.IsNil)
	for range 2 {
		s.run(c, "pull", "--no-wait", "--credentials", credentials, name)
	}
	all := s.requests(c)
	c.Assert(all, check.HasLen, 2)
	for _, cr := range all {
		c.Check(cr.Properties, check.HasLen, 0)
	}
}

// Requests and images go to the project of the container that asks for them,
// unless something else is said.
func (s *joinSuite) TestProject(c *check.C) {
	name, release := s.image(c)
	defer release()
	var projects [2]arvados.Group
	for i := range projects {
		c.Assert(s.user.RequestAndDecode(&projects[i], "POST", "arvados/v1/groups", nil, attrs{
			"group": attrs{"group_class": "project", "name": c.TestName() + string(rune('A'+i))}}), check.IsNil)
	}
	uuid := strings.TrimSpace(s.run(c, "pull", "--no-wait", "--project", projects[0].UUID, name).out)
	var auth arvados.APIClientAuthorization
	var ctr string
	for range 100 { // until it has been locked
		var cr arvados.ContainerRequest
		c.Assert(s.user.RequestAndDecode(&cr, "GET", "arvados/v1/container_requests/"+uuid, nil, nil), check.IsNil)
		ctr = cr.ContainerUUID
		if s.Client(s.SystemRootToken).RequestAndDecode(&auth, "GET", "arvados/v1/containers/"+ctr+"/auth", nil, nil) == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.Assert(auth.UUID, check.Not(check.Equals), "")
	inside := s.Client(auth.TokenV2() + "/" + ctr)
	for _, trial := range []struct {
		project, flag, owner string
	}{
		{owner: projects[0].UUID},
		{project: projects[1].UUID, owner: projects[1].UUID},
		{project: projects[1].UUID, flag: projects[0].UUID, owner: projects[0].UUID},
	} {
		p := &Program{API: inside, Project: trial.project}
		sess, err := p.connect(s.ctx)
		c.Assert(err, check.IsNil)
		owner, err := sess.checkProject(s.ctx, trial.flag)
		c.Check(err, check.IsNil)
		c.Check(owner, check.Equals, trial.owner)
	}
	_, err := (&session{Program: &Program{Project: "nonsense"}}).checkProject(s.ctx, "")
	c.Check(err, check.ErrorMatches, `request: check ARVADOS_PROJECT_UUID: "nonsense" is not the UUID of a project.*`)
}
