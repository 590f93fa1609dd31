// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"gopkg.in/check.v1"
)

const password = "correct horse battery"

// ways in which a registry asks for credentials.
func (s *suite) ways() map[string]func(user, password string) {
	return map[string]func(string, string){"basic": s.server.RequireBasic, "bearer": s.server.RequireBearer}
}

func (s *suite) TestCredentials(c *check.C) {
	for way, require := range s.ways() {
		require("alice", password)
		s.use(c, auths(s.server.Host(), "alice", password))
		layers, err := s.pull(c, "app:1")
		c.Assert(err, check.IsNil, comment("%s", way))
		c.Check(layers, check.DeepEquals, s.expected(c))
	}
}

func (s *suite) TestNoCredentials(c *check.C) {
	for way, require := range s.ways() {
		require("alice", password)
		for given, text := range map[string]string{
			"": `registry: \S+ \S+: (127\S+) wants credentials for app, and there are none \(.* answers 401 Unauthorized: UNAUTHORIZED: .*\) ` +
				`\(check the name of the image, or put a docker config.json with an entry for "127\S+" under "auths" in secret_mounts /root/.docker/config.json\)`,
			auths("quay.io", "bob", "x"): `.*127\S+ wants credentials for app, but there are none for it among those for quay.io .*` +
				`\(check the name of the image, or add an entry for "127\S+" under "auths" in secret_mounts /root/.docker/config.json\)`,
		} {
			s.use(c, given)
			_, err := s.pull(c, "app:1")
			checkFault(c, err, fault.Registry, false, strings.Replace(text, `\S+ \S+`, `(contact registry|read manifest) \S+`, 1))
			c.Check(errors.Is(err, ErrUnauthorized), check.Equals, true, comment("%s", way))
		}
	}
	c.Check(s.slept, check.HasLen, 0)
}

func (s *suite) TestWrongCredentials(c *check.C) {
	for way, require := range s.ways() {
		require("alice", password)
		s.use(c, auths(s.server.Host(), "alice", "wrong-password"))
		_, err := s.pull(c, "app:1")
		checkFault(c, err, fault.Registry, false, `registry: .* 127\S+ refuses the credentials for "127\S+", or they give no access to app \(.*401 Unauthorized: UNAUTHORIZED: .*\) `+
			`\(check the name of the image, and the entry for "127\S+" under "auths" in secret_mounts /root/.docker/config.json\)`)
		c.Check(errors.Is(err, ErrUnauthorized), check.Equals, true, comment("%s", way))
	}
}

func (s *suite) TestForbidden(c *check.C) {
	s.server.Always("/manifests/", registrytest.Refuse(403, "DENIED", "requested access to the resource is denied"))
	_, err := s.pull(c, "app:1")
	checkFault(c, err, fault.Registry, false, `.*127\S+ wants credentials for app, and there are none \(.*403 Forbidden: DENIED: requested access to the resource is denied\).*`)
	c.Check(errors.Is(err, ErrUnauthorized), check.Equals, true)
}

func (s *suite) TestTokenForEverybody(c *check.C) {
	s.server.RequireBearer("", "")
	_, err := s.pull(c, "app:1")
	c.Assert(err, check.IsNil)
	c.Check(s.server.Requests("/token"), check.HasLen, 1)
}

func (s *suite) TestIdentityToken(c *check.C) {
	s.server.RequireBearer("alice", password)
	s.use(c, `{"auths": {"`+s.server.Host()+`": {"auth": "YWxpY2U6", "identitytoken": "`+password+`"}}}`)
	_, err := s.pull(c, "app:1")
	c.Assert(err, check.IsNil)
	tokens := s.server.Requests("/token")
	c.Assert(tokens, check.HasLen, 1)
	c.Check(tokens[0].Method, check.Equals, "POST")
}

func (s *suite) TestRegistryToken(c *check.C) {
	s.server.RequireBearer("alice", password)
	s.use(c, `{"auths": {"`+s.server.Host()+`": {"registrytoken": "registrytest-token-0"}}}`)
	_, err := s.pull(c, "app:1")
	c.Assert(err, check.IsNil)
	c.Check(s.server.Requests("/token"), check.HasLen, 0)
	s.server.ExpireTokens()
	_, err = s.pull(c, "app:1")
	c.Check(errors.Is(err, ErrUnauthorized), check.Equals, true)
}

func (s *suite) TestTokenExpiresInTheMiddle(c *check.C) {
	s.server.RequireBearer("alice", password)
	s.use(c, auths(s.server.Host(), "alice", password))
	s.server.Script(s.blob(), func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		s.server.ExpireTokens()
		serve(w, r)
	}, nil, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		registrytest.Cut(100000)(w, r, serve)
	})
	layers, err := s.pull(c, "app:1")
	c.Assert(err, check.IsNil)
	c.Check(layers, check.DeepEquals, s.expected(c))
	c.Check(s.server.Requests("/token"), check.HasLen, 2)
}

func (s *suite) TestManyTransfersRenewATokenOnce(c *check.C) {
	s.server.RequireBearer("alice", password)
	s.use(c, auths(s.server.Host(), "alice", password))
	image, err := s.resolve(c, "app:1", "linux/amd64")
	c.Assert(err, check.IsNil)
	s.server.ExpireTokens()
	// All of them are refused before any of them may renew.
	const transfers = 6
	var refused sync.WaitGroup
	refused.Add(transfers)
	meet := func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		serve(w, r)
		refused.Done()
		refused.Wait()
	}
	for range transfers {
		s.server.Script(s.blob(), meet)
	}
	results := make(chan error)
	for range transfers {
		go func() {
			_, err := readLayer(image.Layers[0])
			results <- err
		}()
	}
	for range transfers {
		c.Check(<-results, check.IsNil)
	}
	c.Check(s.server.Requests("/token"), check.HasLen, 2)
}

func (s *suite) TestTroubleOfTheTokenServer(c *check.C) {
	s.server.RequireBearer("alice", password)
	s.use(c, auths(s.server.Host(), "alice", password))
	s.server.Script("/token", registrytest.Status(503), registrytest.Cut(5))
	_, err := s.pull(c, "app:1")
	c.Assert(err, check.IsNil)
	c.Check(s.slept, check.HasLen, 2)

	s.server.Always("/token", func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		_, _ = w.Write([]byte(`{"refresh_token": "secret of the registry"}`))
	})
	_, err = s.pull(c, "app:1")
	checkFault(c, err, fault.Registry, false, `registry: contact registry 127\S+: no token in bearer response`)
}

func (s *suite) TestTokenRealmInsideTheNetwork(c *check.C) {
	for realm, text := range map[string]string{
		"http://169.254.169.254/token": `.*realm host "169.254.169.254" is a private or link-local address`,
		"http://localhost:9/token":     `.*not connecting to localhost:9: its address (127.0.0.1|::1) is a loopback or private one \(.*list localhost:9 under pull.registries.*\)`,
		"ftp://example.com/":           `.*realm scheme "ftp" not allowed.*`,
	} {
		s.TearDownTest(c)
		s.SetUpTest(c)
		s.server.Always("/v2/", registrytest.Status(401, `Www-Authenticate: Bearer realm="`+realm+`",service="x"`))
		_, err := s.pull(c, "app:1")
		checkFault(c, err, fault.Registry, false, text)
		c.Check(s.slept, check.HasLen, 0)
	}
}

func (s *suite) TestRedirects(c *check.C) {
	cdn := registrytest.New()
	defer cdn.Close()
	cdn.Push("app:1", s.image)
	s.server.RequireBasic("alice", password)
	s.server.Always(s.blob(), registrytest.Redirect(cdn.URL()))
	s.source.Close()
	s.source = s.newSource(c, auths(s.server.Host(), "alice", password), cdn.Host())
	cdn.Script(s.blob(), registrytest.Cut(100000), registrytest.Status(403), registrytest.Status(503))
	layers, err := s.pull(c, "app:1")
	c.Assert(err, check.IsNil)
	c.Check(layers, check.DeepEquals, s.expected(c))
	requests := cdn.Requests("")
	c.Assert(requests, check.HasLen, 4)
	for _, r := range requests {
		c.Check(r.Authorization, check.Equals, "")
	}
	c.Check(requests[3].Range, check.Equals, "bytes=100000-")
	// Each time the registry is asked for the way again.
	c.Check(s.server.Requests(s.blob()), check.HasLen, 4)
}

func (s *suite) TestRedirectsThatAreNotFollowed(c *check.C) {
	for target, text := range map[string]string{
		"http://169.254.169.254":      `.*not connecting to 169.254.169.254:80: the connection would be without TLS.*`,
		"https://169.254.169.254":     `.*not connecting to 169.254.169.254:443: its address 169.254.169.254 is local to the machine's own link or a cloud's metadata service \(.*\)`,
		"https://[fd00:ec2::254]":     `.*its address fd00:ec2::254 is local to the machine's own link or a cloud's metadata service \(.*\)`,
		"https://[::ffff:a9fe:a9fe]/": `.*its address (::ffff:)?169.254.169.254 is local to .*`,
		"https://100.100.100.200":     `.*its address 100.100.100.200 is local to .*`,
		"https://10.0.0.1":            `.*not connecting to 10.0.0.1:443: its address 10.0.0.1 is a loopback or private one \(name a public registry, or ask the administrator to list 10.0.0.1:443 under pull.registries in the site file\)`,
		"http://127.0.0.1:1":          `.*not connecting to 127.0.0.1:1: its address 127.0.0.1 is a loopback or private one.*`,
		"http://example.com":          `.*not connecting to example.com:80: the connection would be without TLS \(ask the administrator to list http://example.com under .*\)`,
		"file:///etc/passwd":          `.*the registry sends us to a URL that starts with file: .*`,
	} {
		s.TearDownTest(c)
		s.SetUpTest(c)
		s.server.Always(s.blob(), registrytest.Redirect(target))
		_, err := s.pull(c, "app:1")
		checkFault(c, err, fault.Registry, false, text)
		c.Check(s.slept, check.HasLen, 0)
	}
}

func (s *suite) TestRedirectLoop(c *check.C) {
	s.server.Always(s.blob(), registrytest.Redirect(s.server.URL()))
	_, err := s.pull(c, "app:1")
	checkFault(c, err, fault.Registry, false, `.*stopped after 10 redirects`)
}

func (s *suite) TestRegistriesThatMayNotBeNamed(c *check.C) {
	for _, t := range []struct {
		registries []string
		text       string
	}{
		{nil, `request: contact registry (127\S+): not connecting to 127\S+: its address 127.0.0.1 is a loopback or private one .*`},
		{[]string{"*"}, `.*loopback or private.*`},
		{[]string{"*", "127.0.0.1:1"}, `.*loopback or private.*`},
		{[]string{"quay.io", "*.example.com"}, `request: contact registry (127\S+): not connecting to 127\S+: this site does not allow this registry \(use one of: quay.io, \*.example.com; or ask the administrator.*\)`},
	} {
		source, err := New(Options{Registries: t.registries})
		c.Assert(err, check.IsNil)
		_, err = source.Resolve(context.Background(), s.ref(c, "app:1"), "")
		checkFault(c, err, fault.Request, false, t.text)
		checkFault(c, CheckHost(context.Background(), s.ref(c, "app:1"), t.registries), fault.Request, false, t.text)
		source.Close()
	}
	c.Check(s.server.Requests(""), check.HasLen, 0)
}

func (s *suite) TestCheckHost(c *check.C) {
	c.Check(CheckHost(context.Background(), s.ref(c, "app"), []string{s.server.Host()}), check.IsNil)
	// A name that does not resolve here may do so elsewhere.
	c.Check(CheckHost(context.Background(), imageref.Ref{Domain: "registry.invalid", Path: "a"}, nil), check.IsNil)
	c.Check(CheckHost(context.Background(), imageref.Ref{Domain: "x", Path: "a"}, []string{"a b"}), check.NotNil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c.Check(CheckHost(ctx, imageref.Ref{Domain: "registry.invalid", Path: "a"}, nil), check.ErrorMatches, `.*context canceled`)
}

func (s *suite) TestTLS(c *check.C) {
	server := registrytest.NewTLS()
	defer server.Close()
	server.Push("app:1", s.image)
	source := s.newSource(c, "", server.Host())
	defer source.Close()
	ref := imageref.Ref{Domain: server.Host(), Path: "app", Tag: "1"}

	_, err := source.Resolve(context.Background(), ref, "linux/amd64")
	checkFault(c, err, fault.Registry, false, `.*tls: failed to verify certificate: x509: .* \(ask the administrator to make the nodes trust .*\)`)

	source.guard.direct.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	image, err := source.Resolve(context.Background(), ref, "linux/amd64")
	c.Assert(err, check.IsNil)
	_, err = readLayer(image.Layers[0])
	c.Check(err, check.IsNil)
}

func (s *suite) TestRegistryThatForgetsItsTLS(c *check.C) {
	server := registrytest.NewTLS()
	defer server.Close()
	server.Push("app:1", s.image)
	server.RequireBasic("alice", password)
	server.Script("/manifests/", registrytest.Redirect("http://"+server.Host()))
	source := s.newSource(c, auths(server.Host(), "alice", password), server.Host())
	defer source.Close()
	source.guard.direct.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	_, err := source.Resolve(context.Background(), imageref.Ref{Domain: server.Host(), Path: "app", Tag: "1"}, "linux/amd64")
	c.Check(err, check.IsNil)
}

func (s *suite) TestPlainHTTPMustBeListed(c *check.C) {
	// example.test stands for a registry that is not at a loopback address,
	// behind a proxy that knows where to find it.
	proxy, err := url.Parse(s.server.URL())
	c.Assert(err, check.IsNil)
	ref := imageref.Ref{Domain: "example.test:5000", Path: "app", Tag: "1"}
	for _, entry := range []string{"example.test:5000", "http://example.test:5000"} {
		source := s.newSource(c, "", entry)
		source.guard.proxy = func(req *http.Request) (*url.URL, error) {
			if req.URL.Scheme == "http" {
				return proxy, nil
			}
			return nil, nil
		}
		image, err := source.Resolve(context.Background(), ref, "linux/amd64")
		if strings.HasPrefix(entry, "http://") {
			c.Assert(err, check.IsNil)
			_, err = readLayer(image.Layers[0])
			c.Check(err, check.IsNil)
		} else {
			c.Check(err, check.NotNil)
			c.Check(s.server.Requests(""), check.HasLen, 0)
		}
		source.Close()
	}
}

func (s *suite) TestProxyDoesNotLeadInside(c *check.C) {
	proxy, err := url.Parse(s.server.URL())
	c.Assert(err, check.IsNil)
	source := s.newSource(c, "")
	defer source.Close()
	source.guard.proxy = func(*http.Request) (*url.URL, error) { return proxy, nil }
	for domain, side := range map[string]fault.Side{"169.254.169.254": fault.Request, "10.1.2.3:5000": fault.Request, "localhost:5000": fault.Request} {
		_, err := source.Resolve(context.Background(), imageref.Ref{Domain: domain, Path: "app", Tag: "1"}, "")
		checkFault(c, err, side, false, `.*not connecting to .*`)
	}
	c.Check(s.server.Requests(""), check.HasLen, 0)
}

func (s *suite) TestPrivateRegistryIsNotTriedWithoutTLS(c *check.C) {
	proxy, err := url.Parse(s.server.URL())
	c.Assert(err, check.IsNil)
	source := s.newSource(c, "", "10.1.2.3:5000")
	defer source.Close()
	source.guard.proxy = func(*http.Request) (*url.URL, error) { return proxy, nil }
	s.server.Always("", registrytest.Status(502)) // CONNECT
	_, err = source.Resolve(context.Background(), imageref.Ref{Domain: "10.1.2.3:5000", Path: "app", Tag: "1"}, "")
	c.Check(err, check.ErrorMatches, `registry: contact registry 10.1.2.3:5000: the proxy 127\S+ answers 502 Bad Gateway, 3 times in a row`)
	for _, r := range s.server.Requests("") {
		c.Check(r.Method, check.Equals, "CONNECT")
	}
}

func (s *suite) TestSecretsStaySecret(c *check.C) {
	for way := range s.ways() {
		for _, script := range []func(){
			func() { s.server.Always("/manifests/", registrytest.Refuse(403, "DENIED", "not with "+password)) },
			func() { s.server.Always("/v2/", registrytest.Refuse(400, "BAD", "your token is "+password)) },
			func() { s.server.Always("/v2/", registrytest.Refuse(503, "DOWN", password+" "+password)) },
			func() { s.server.Always(s.blob(), registrytest.Redirect("https://10.0.0.1/?signature="+password)) },
			func() { s.server.Always(s.blob(), registrytest.Cut(0)) },
		} {
			s.TearDownTest(c)
			s.SetUpTest(c)
			s.use(c, auths(s.server.Host(), "alice", password))
			s.ways()[way]("alice", password)
			script()
			_, err := s.pull(c, "app:1")
			c.Assert(err, check.NotNil)
			c.Check(strings.Contains(err.Error()+s.log.String(), password), check.Equals, false, comment("%v %s", err, s.log.String()))
			c.Check(strings.Contains(err.Error()+s.log.String(), "registrytest-token"), check.Equals, false)
		}
	}
}
