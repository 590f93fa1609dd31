// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"gopkg.in/check.v1"
)

// strictly makes the API server refuse a property as those do whose vocabulary is
// strict and lacks it.
func (s *keptSuite) strictly() {
	s.refusal = `tag key "docker-image-hash" is not defined in the vocabulary`
	s.refuse = func(r *http.Request) int {
		if r.Method == http.MethodGet || !strings.HasPrefix(r.URL.Path, "/arvados/v1/collections") {
			return 0
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if text, _ := url.QueryUnescape(string(body)); strings.Contains(text, `"docker-image-hash"`) {
			return http.StatusBadRequest
		}
		return 0
	}
}

// A strict vocabulary refuses some keys. Images are stored, named and found by
// other keys then.
func (s *keptSuite) TestStrictVocabulary(c *check.C) {
	made := s.store(c, randomimage.New(1, 4096), nil, "lab/tool:1")
	archive := filepath.Join(c.MkDir(), "image.tar")
	s.run(c, "save", "-o", archive, "lab/tool:1")
	s.strictly()
	s.run(c, "tag", "lab/tool:1", "lab/other:1")
	properties := s.collection(c, made).Properties
	hash, _ := properties["arv:docker-image-hash"].(string)
	c.Check(hash, check.Matches, `sha256:[0-9a-f]{64}`)
	c.Check(properties["docker-image-hash"], check.IsNil)
	c.Check(properties[keyRepoTag], check.DeepEquals, []interface{}{"lab/tool:1", "lab/other:1"})

	c.Assert(s.user.RequestAndDecode(nil, "DELETE", "arvados/v1/collections/"+made, nil, nil), check.IsNil)
	c.Assert(os.Chmod(archive, 0400), check.IsNil)
	loaded := strings.TrimSpace(s.run(c, "load", "--tag", "lab/third:1", "-q", archive).out)
	for _, name := range []string{"lab/third:1", hash, loaded} {
		c.Check(s.run(c, "inspect", name).out, check.Matches, `(?s).*"Id": "`+hash+`".*`, check.Commentf("%s", name))
	}
}
