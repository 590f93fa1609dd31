// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

func Test(t *testing.T) {
	defer goleak.VerifyNone(t)
	check.TestingT(t)
}

const token = "alices-token"

// cluster is an API server and Keep, in memory.
type cluster struct {
	keep        *keeptest.Keep
	mtx         sync.Mutex
	collections map[string]string // manifests by id, not signed
	fail        error             // what every request answers with
	requests    []string
}

func newCluster() *cluster {
	return &cluster{keep: keeptest.New(), collections: map[string]string{}}
}

func (cl *cluster) client() *keeptest.Client { return cl.keep.As(token) }

// RequestAndDecodeContext gets a collection.
func (cl *cluster) RequestAndDecodeContext(ctx context.Context, dst interface{}, method, path string, _ io.Reader, params interface{}) error {
	cl.mtx.Lock()
	defer cl.mtx.Unlock()
	cl.requests = append(cl.requests, method+" "+path)
	id, ok := strings.CutPrefix(path, "arvados/v1/collections/")
	if !ok || method != http.MethodGet {
		return fmt.Errorf("unexpected request: %s %s", method, path)
	}
	if selected, _ := json.Marshal(params); string(selected) != `{"select":["portable_data_hash","manifest_text"]}` {
		return fmt.Errorf("unexpected parameters: %s", selected)
	}
	if cl.fail != nil {
		return cl.fail
	}
	manifest, ok := cl.collections[id]
	if !ok {
		return &arvados.TransactionError{StatusCode: 404, Status: "404 Not Found"}
	}
	*dst.(*arvados.Collection) = arvados.Collection{
		PortableDataHash: arvados.PortableDataHash(manifest),
		ManifestText:     cl.keep.Sign(manifest, token),
	}
	return nil
}

// file is a file of a collection to be made; a path with "/" at its end is an
// empty folder.
type file struct{ path, content string }

// store makes a collection whose files lie one after the other in blocks of so
// many bytes, and returns its portable data hash.
func (cl *cluster) store(blockSize int, files ...file) string {
	var all []byte
	for _, f := range files {
		all = append(all, f.content...)
	}
	var blocks []keepfile.Block
	for start := 0; start < len(all); start += blockSize {
		data := all[start:min(start+blockSize, len(all))]
		resp, err := cl.client().BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: data})
		if err != nil {
			panic(err)
		}
		blocks = append(blocks, keepfile.Block{Locator: resp.Locator, Size: int64(len(data))})
	}
	var made []keepfile.File
	at := 0
	for _, f := range files {
		m := keepfile.File{Path: f.path}
		for end := at + len(f.content); at < end; {
			i, offset := at/blockSize, at%blockSize
			n := min(end-at, int(blocks[i].Size)-offset)
			m.Segments = append(m.Segments, keepfile.Segment{Locator: blocks[i].Locator, Offset: int64(offset), Length: int64(n)})
			at += n
		}
		made = append(made, m)
	}
	return cl.add(keepfile.FormatManifest(made))
}

func (cl *cluster) add(manifest string) string {
	unsigned := cl.keep.Sign(manifest, "")
	pdh := arvados.PortableDataHash(unsigned)
	cl.collections[pdh] = unsigned
	return pdh
}

// fixture is an empty cluster for each test.
type fixture struct {
	ctx context.Context
	cl  *cluster
}

func (f *fixture) SetUpTest(*check.C) {
	f.ctx, f.cl = context.Background(), newCluster()
}

func (f *fixture) collection(c *check.C, id string) *Tree {
	t, err := FromCollection(f.ctx, f.cl, f.cl.client(), id)
	c.Assert(err, check.IsNil)
	return t
}

func (f *fixture) mounts(c *check.C, mounts map[string]arvados.Mount) *Tree {
	t, err := FromMounts(f.ctx, f.cl, f.cl.client(), mounts)
	c.Assert(err, check.IsNil)
	return t
}

// listing is a tree as its stream has it, a line for each entry.
func listing(c *check.C, t *Tree) []string {
	lines := []string{}
	r := t.Open(context.Background())
	defer r.Close()
	for archive := tar.NewReader(r); ; {
		hdr, err := archive.Next()
		if err == io.EOF {
			return lines
		}
		c.Assert(err, check.IsNil)
		content, err := io.ReadAll(archive)
		c.Assert(err, check.IsNil)
		line := fmt.Sprintf("%s %o", hdr.Name, hdr.Mode)
		switch hdr.Typeflag {
		case tar.TypeReg:
			line += fmt.Sprintf(" %q", content)
		case tar.TypeSymlink:
			line += " -> " + hdr.Linkname
		}
		lines = append(lines, line)
	}
}

// checkRefused expects an error that the user has to mend.
func checkRefused(c *check.C, err error, want string) {
	comment := check.Commentf("%v", err)
	c.Check(err, check.ErrorMatches, `(?s).*`+want+`.*`, comment)
	var e *fault.Error
	c.Assert(errors.As(err, &e), check.Equals, true, comment)
	c.Check(e.Side, check.Equals, fault.Request, comment)
	c.Check(fault.Transient(err), check.Equals, false, comment)
}
