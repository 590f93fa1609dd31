// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localkeep

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

type suite struct {
	dir    string
	server *httptest.Server
}

const (
	key   = "blob-signing-key"
	token = "v2/zzzzz-gj3su-000000000000001/secret"
	ttl   = time.Hour
)

func (s *suite) SetUpTest(c *check.C) {
	s.dir = c.MkDir()
	h, err := New(Config{Dir: s.dir, BlobSigningKey: key, BlobSigningTTL: ttl})
	c.Assert(err, check.IsNil)
	s.server = httptest.NewServer(h)
}

func (s *suite) TearDownTest(c *check.C) { s.server.Close() }

type reply struct {
	status int
	header http.Header
	body   string
}

func (s *suite) do(c *check.C, method, path, auth string, body io.Reader, header ...string) reply {
	req, err := http.NewRequest(method, s.server.URL+"/"+path, body)
	c.Assert(err, check.IsNil)
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	c.Assert(err, check.IsNil)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	c.Assert(err, check.IsNil)
	return reply{resp.StatusCode, resp.Header, string(text)}
}

func md5hex(data []byte) string { return fmt.Sprintf("%x", md5.Sum(data)) }

// files are all files of the volume.
func (s *suite) files(c *check.C) (names []string) {
	all, err := filepath.Glob(filepath.Join(s.dir, "*", "*"))
	c.Assert(err, check.IsNil)
	top, err := filepath.Glob(filepath.Join(s.dir, unfinished+"*"))
	c.Assert(err, check.IsNil)
	return append(all, top...)
}

func (s *suite) TestWriteAndRead(c *check.C) {
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize*chunks + 1, maxBlock} {
		data := bytes.Repeat([]byte("0123456"), size/7+1)[:size]
		put := s.do(c, "PUT", md5hex(data), "Bearer "+token, bytes.NewReader(data))
		c.Assert(put.status, check.Equals, 200, check.Commentf("%d bytes: %s", size, put.body))
		c.Check(put.header.Get("X-Keep-Replicas-Stored"), check.Equals, "1")
		c.Check(put.header.Get("X-Keep-Storage-Classes-Confirmed"), check.Equals, "default=1")
		locator := strings.TrimSuffix(put.body, "\n")
		c.Check(locator, check.Matches, fmt.Sprintf(`%s\+%d\+A[0-9a-f]{40}@[0-9a-f]{8}`, md5hex(data), size))

		get := s.do(c, "GET", locator, "OAuth2 "+token, nil)
		c.Check(get.status, check.Equals, 200)
		c.Check(get.body == string(data), check.Equals, true)
		head := s.do(c, "HEAD", locator, "Bearer "+token, nil)
		c.Check(head.status, check.Equals, 200)
		c.Check(head.header.Get("Content-Length"), check.Equals, fmt.Sprint(size))
	}
}

func (s *suite) TestRange(c *check.C) {
	data := []byte("0123456789")
	put := s.do(c, "PUT", md5hex(data), "Bearer "+token, bytes.NewReader(data))
	get := s.do(c, "GET", strings.TrimSpace(put.body), "Bearer "+token, nil, "Range", "bytes=2-4")
	c.Check(get.status, check.Equals, 206)
	c.Check(get.body, check.Equals, "234")
}

// Every storage class that is asked for is confirmed.
func (s *suite) TestStorageClasses(c *check.C) {
	long := strings.Repeat("x", 300)
	for asked, confirmed := range map[string]string{
		"":                 "default=1",
		"default":          "default=1",
		"archive":          "archive=1",
		"archive, default": "archive=1, default=1",
		"fast,archive":     "fast=1, archive=1",
		" , fast,, ":       "fast=1",
		"../../up":         "../../up=1",
		long:               long + "=1",
	} {
		about := check.Commentf("%q", asked)
		data := []byte(asked)
		for range 2 { // also when the block is there
			put := s.do(c, "PUT", md5hex(data), "Bearer "+token, bytes.NewReader(data), "X-Keep-Storage-Classes", asked)
			c.Check(put.status, check.Equals, 200, about)
			c.Check(put.header.Get("X-Keep-Storage-Classes-Confirmed"), check.Equals, confirmed, about)
		}
	}
	c.Check(s.files(c), check.HasLen, 8) // the blocks, whatever they were written with
	refused := s.do(c, "PUT", md5hex([]byte("x")), "Bearer "+token, strings.NewReader("y"), "X-Keep-Storage-Classes", "archive")
	c.Check(refused.status, check.Equals, 400)
	c.Check(refused.header.Get("X-Keep-Storage-Classes-Confirmed"), check.Equals, "")
}

func (s *suite) TestRefusedWritesLeaveNothing(c *check.C) {
	data := []byte("content")
	for _, trial := range []struct {
		path, auth string
		body       io.Reader
		status     int
	}{
		{md5hex(data), "", bytes.NewReader(data), 401},
		{md5hex(data), "Basic abc", bytes.NewReader(data), 401},
		{md5hex([]byte("other")), "Bearer " + token, bytes.NewReader(data), 400},
		{"nonsense", "Bearer " + token, bytes.NewReader(data), 400},
		{"../" + md5hex(data), "Bearer " + token, bytes.NewReader(data), 400},
		{md5hex(data), "Bearer " + token, struct{ io.Reader }{bytes.NewReader(data)}, 411}, // chunked
		{md5hex(data), "Bearer " + token, bytes.NewReader(make([]byte, maxBlock+1)), 413},
	} {
		got := s.do(c, "PUT", trial.path, trial.auth, trial.body)
		c.Check(got.status, check.Equals, trial.status, check.Commentf("%+v", trial))
	}
	c.Check(s.do(c, "DELETE", md5hex(data), "Bearer "+token, nil).status, check.Equals, 405)
	c.Check(s.files(c), check.HasLen, 0)
}

func (s *suite) TestCutWriteLeavesNothing(c *check.C) {
	data := make([]byte, 1<<20)
	r, w := io.Pipe()
	req, err := http.NewRequest("PUT", s.server.URL+"/"+md5hex(data), r)
	c.Assert(err, check.IsNil)
	req.ContentLength = int64(len(data))
	req.Header.Set("Authorization", "Bearer "+token)
	go func() {
		w.Write(data[:1000])
		w.CloseWithError(io.ErrClosedPipe)
	}()
	_, err = http.DefaultClient.Do(req)
	c.Check(err, check.NotNil)
	s.server.Close() // waits for the handler
	c.Check(s.files(c), check.HasLen, 0)
	s.SetUpTest(c)
}

func (s *suite) TestWhoMayRead(c *check.C) {
	data := []byte("content")
	bare := fmt.Sprintf("%s+%d", md5hex(data), len(data))
	c.Assert(s.do(c, "PUT", md5hex(data), "Bearer "+token, bytes.NewReader(data)).status, check.Equals, 200)
	sign := func(locator, token, key string, expiry time.Time) string {
		return arvados.SignLocator(locator, token, expiry, ttl, []byte(key))
	}
	later, unknown := time.Now().Add(ttl), "0123456789abcdef0123456789abcdef+7"
	for _, trial := range []struct {
		locator, auth string
		status        int
	}{
		{sign(bare, token, key, later), "Bearer " + token, 200},
		{sign(bare, token, key, later), "Bearer other", 400},
		{sign(bare, token, "other-key", later), "Bearer " + token, 400},
		{sign(bare, token, key, time.Now().Add(-time.Minute)), "Bearer " + token, 401},
		{sign(bare, token, key, later), "", 401},
		{bare, "Bearer " + token, 400},
		{sign(unknown, token, key, later), "Bearer " + token, 404},
	} {
		c.Check(s.do(c, "GET", trial.locator, trial.auth, nil).status, check.Equals, trial.status, check.Commentf("%+v", trial))
	}
}

func (s *suite) TestExistingBlocks(c *check.C) {
	data := []byte("content")
	path := volume(s.dir).path(md5hex(data))
	c.Assert(s.do(c, "PUT", md5hex(data), "Bearer "+token, bytes.NewReader(data)).status, check.Equals, 200)
	before, err := os.Stat(path)
	c.Assert(err, check.IsNil)
	c.Check(s.do(c, "PUT", md5hex(data), "Bearer "+token, bytes.NewReader(data)).status, check.Equals, 200)
	after, err := os.Stat(path)
	c.Assert(err, check.IsNil)
	c.Check(os.SameFile(before, after), check.Equals, true)
	// Wrong content is refused though the block is there.
	c.Check(s.do(c, "PUT", md5hex(data), "Bearer "+token, strings.NewReader("CONTENT")).status, check.Equals, 400)
	// A block that was cut short is written anew.
	c.Assert(os.Truncate(path, 3), check.IsNil)
	c.Check(s.do(c, "PUT", md5hex(data), "Bearer "+token, bytes.NewReader(data)).status, check.Equals, 200)
	whole, err := os.ReadFile(path)
	c.Assert(err, check.IsNil)
	c.Check(string(whole), check.Equals, string(data))
}

func (s *suite) TestManyAtOnce(c *check.C) {
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			data := bytes.Repeat([]byte{byte(i / 4)}, 300000) // four clients a block
			put := s.do(c, "PUT", md5hex(data), "Bearer "+token, bytes.NewReader(data))
			c.Check(put.status, check.Equals, 200)
		})
	}
	all.Wait()
	c.Check(s.files(c), check.HasLen, 8)
}

func (s *suite) TestStartRemovesWhatWasUnfinished(c *check.C) {
	left := filepath.Join(s.dir, unfinished+"123")
	c.Assert(os.WriteFile(left, []byte("half"), 0600), check.IsNil)
	_, err := New(Config{Dir: s.dir})
	c.Assert(err, check.IsNil)
	c.Check(s.files(c), check.HasLen, 0)
}

func FuzzPath(f *testing.F) {
	dir := f.TempDir()
	h, err := New(Config{Dir: dir, BlobSigningKey: key, BlobSigningTTL: ttl})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("/d41d8cd98f00b204e9800998ecf8427e+0", "GET")
	f.Add("/../../etc/passwd", "GET")
	f.Add("/d41d8cd98f00b204e9800998ecf8427e", "PUT")
	f.Fuzz(func(t *testing.T, path, method string) {
		req := httptest.NewRequest("GET", "/", nil)
		req.Method, req.URL.Path = method, path
		req.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code == 200 && method != "PUT" {
			t.Errorf("%s %q answered without a signature", method, path)
		}
	})
}
