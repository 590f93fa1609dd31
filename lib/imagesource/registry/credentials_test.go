// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

type credentialsSuite struct{}

var _ = check.Suite(&credentialsSuite{})

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func (*credentialsSuite) TestWhichLoginIsTaken(c *check.C) {
	alice := `{"auth": "` + encoded("alice:secret") + `"}`
	for _, t := range []struct {
		auths              string
		domain, repository string
		want               login
	}{
		{`"quay.io": ` + alice, "quay.io", "a/b", login{username: "alice", password: "secret"}},
		{`"https://quay.io": ` + alice, "quay.io", "a/b", login{username: "alice", password: "secret"}},
		{`"https://quay.io/v1/": ` + alice, "quay.io", "a/b", login{username: "alice", password: "secret"}},
		{`"https://quay.io/v2/": ` + alice, "quay.io", "a/b", login{username: "alice", password: "secret"}},
		{`"QUAY.io:443": ` + alice, "quay.io", "a/b", login{username: "alice", password: "secret"}},
		{`"quay.io:5000": ` + alice, "quay.io", "a/b", login{}},
		{`"quay.io": ` + alice, "quay.io:5000", "a/b", login{}},
		{`"quay.io": ` + alice, "eviquay.io", "a/b", login{}},
		{`"http://127.0.0.1:5000": ` + alice, "127.0.0.1:5000", "a", login{username: "alice", password: "secret"}},
		{`"[::1]:5000": ` + alice, "[::1]:5000", "a", login{username: "alice", password: "secret"}},
		// Docker Hub under any of its names.
		{`"https://index.docker.io/v1/": ` + alice, "docker.io", "library/a", login{username: "alice", password: "secret"}},
		{`"index.docker.io": ` + alice, "docker.io", "library/a", login{username: "alice", password: "secret"}},
		{`"docker.io": ` + alice, "docker.io", "library/a", login{username: "alice", password: "secret"}},
		{`"registry-1.docker.io": ` + alice, "docker.io", "library/a", login{username: "alice", password: "secret"}},
		// Entries for parts of a registry: the longest path.
		{`"quay.io": ` + alice + `, "quay.io/team": {"username": "bob", "password": "b"}, "quay.io/team/x": {"username": "eve", "password": "e"}`, "quay.io", "team/app", login{username: "bob", password: "b"}},
		{`"quay.io": ` + alice + `, "quay.io/team": {"username": "bob", "password": "b"}`, "quay.io", "teams/app", login{username: "alice", password: "secret"}},
		{`"quay.io/team": ` + alice, "quay.io", "other/app", login{}},
		// Forms of an entry.
		{`"quay.io": {"username": "bob", "password": "b"}`, "quay.io", "a", login{username: "bob", password: "b"}},
		{`"quay.io": {"username": "bob", "password": "b", "auth": "` + encoded("alice:secret") + `"}`, "quay.io", "a", login{username: "alice", password: "secret"}},
		{`"quay.io": {"auth": "` + strings.TrimRight(encoded("alice:with:colon"), "=") + `"}`, "quay.io", "a", login{username: "alice", password: "with:colon"}},
		{`"quay.io": {"auth": "` + encoded("alice:secret\x00\x00") + `"}`, "quay.io", "a", login{username: "alice", password: "secret"}},
		{`"quay.io": {"identitytoken": "t"}`, "quay.io", "a", login{identityToken: "t"}},
		{`"quay.io": {"registrytoken": "t"}`, "quay.io", "a", login{registryToken: "t"}},
		{`"quay.io": {}, "https://quay.io/v1/": ` + alice, "quay.io", "a", login{username: "alice", password: "secret"}},
		{`"quay.io": {}`, "quay.io", "a", login{}},
		{``, "quay.io", "a", login{}},
	} {
		creds, err := parseCredentials([]byte(`{"auths": {` + t.auths + `}, "HttpHeaders": {"x": "y"}}`))
		c.Assert(err, check.IsNil, check.Commentf("%s", t.auths))
		got, err := creds.login(t.domain, t.repository)
		c.Check(err, check.IsNil)
		c.Check(got, check.Equals, t.want, check.Commentf("%s for %s/%s", t.auths, t.domain, t.repository))
	}
}

func (*credentialsSuite) TestHelpersAreNamedAndNotRun(c *check.C) {
	for _, t := range []struct{ file, domain, text string }{
		{`{"credHelpers": {"quay.io": "ecr-login"}}`, "quay.io",
			`request: read registry credentials /root/.docker/config.json: it leaves quay.io to the credential helper "ecr-login", which cannot be run here ` +
				`\(write the credentials themselves: {"auths": {"quay.io": {"auth": "<base64 of user:password>"}}}\)`},
		{`{"credsStore": "desktop", "auths": {"https://index.docker.io/v1/": {}}}`, "docker.io",
			`.*it leaves docker.io to the credential helper "desktop".*"https://index.docker.io/v1/".*`},
		{`{"credsStore": "desktop", "credHelpers": {"quay.io": "gcloud"}, "auths": {"quay.io": {}}}`, "quay.io", `.*"gcloud".*`},
		// Docker would ask the store even then; but most such files come
		// with public images.
		{`{"credsStore": "desktop"}`, "quay.io", ``},
		{`{"credHelpers": {"quay.io": "ecr-login"}}`, "docker.io", ``},
		{`{"credsStore": "desktop", "auths": {"quay.io": {"username": "a", "password": "b"}}}`, "quay.io", ``},
	} {
		creds, err := parseCredentials([]byte(t.file))
		c.Assert(err, check.IsNil)
		_, err = creds.login(t.domain, "a")
		if t.text == "" {
			c.Check(err, check.IsNil)
		} else {
			checkFault(c, err, fault.Request, false, t.text)
		}
	}
}

func (*credentialsSuite) TestFilesThatAreNone(c *check.C) {
	for file, text := range map[string]string{
		`secret`:                                      `it is not JSON \(at byte 1\)`,
		`{"auths": {"quay.io": {"auth": "sec`:         `it is not JSON \(at byte \d+\)`,
		`["secret"]`:                                  `its entries have not the types of a docker config.json`,
		`{"auths": {"quay.io": "secret"}}`:            `its entries have not the types of a docker config.json`,
		`{"auths": {"quay.io": {"auth": 12345}}}`:     `its entries have not the types of a docker config.json`,
		`{"auths": {"quay.io": {"auth": "secret!"}}}`: `auth of "quay.io" is not the base64 of user:password`,
		`{"auths": {"quay.io": {"auth": "` + encoded("secret") + `"}}}`: `auth of "quay.io" is not the base64 of user:password`,
	} {
		_, err := New(Options{Credentials: []byte(file)})
		checkFault(c, err, fault.Request, false, `request: read registry credentials /root/.docker/config.json: `+text+` \(write {"auths": .*\)`)
		c.Check(strings.Contains(err.Error(), "secret"), check.Equals, false)
		c.Check(strings.Contains(err.Error(), "12345"), check.Equals, false)
	}
}

func (*credentialsSuite) TestHide(c *check.C) {
	creds, err := parseCredentials([]byte(`{"auths": {"a.io": {"username": "alice", "password": "secret-and-more"}, "b.io": {"identitytoken": "secret"}, "c.io": {"username": "x", "password": "no"}}}`))
	c.Assert(err, check.IsNil)
	c.Check(creds.hide().Replace("alice: secret-and-more, secret, no, "+encoded("alice:secret-and-more")), check.Equals, "alice: [secret], [secret], no, [secret]")
}

func FuzzCredentials(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}}}`, `{"auths": {"[::1]:5000": {"username": "a", "password": "b"}}}`,
		`{"credsStore": "x", "credHelpers": {"a": "b"}, "auths": {"a/b/c": {}}}`, `{"auths": {"": {"auth": "Og=="}}}`, `{"auths": {"://": {"auth": "!"}}}`,
	} {
		f.Add([]byte(seed), "docker.io", "library/a")
	}
	f.Fuzz(func(t *testing.T, file []byte, domain, repository string) {
		creds, err := parseCredentials(file)
		if err == nil {
			creds.hide()
			_, err = creds.login(domain, repository)
		}
		var fault *fault.Error
		if err != nil && !errors.As(err, &fault) {
			t.Errorf("%T", err)
		}
	})
}
