// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

// archive is the stored file of an image, which is left in the cluster.
func (s *badInputSuite) archive(c *check.C) *bytes.Reader {
	s.store(c, randomimage.New(1, 3000, 5*mib), nil, "intact:1")
	return bytes.NewReader([]byte(s.run(c, "save", "intact:1").out))
}

// storeFiles makes a collection of files, in that order, which has the
// properties of an image and says that it was never changed.
func (s *badInputSuite) storeFiles(c *check.C, properties attrs, name string, contents ...[]byte) {
	pack := keepfile.NewPacker(context.Background(), keepfile.NewWriter(s.keep(c), 1, arvados.BlockWriteOptions{}))
	file := properties["docker-image-hash"].(string) + ".tar"
	for _, content := range contents {
		c.Assert(pack.Add(file, bytes.NewReader(content)), check.IsNil)
		file = "second.txt"
	}
	files, err := pack.Close()
	c.Assert(err, check.IsNil)
	manifest := keepfile.FormatManifest(files)
	all := attrs{}
	for key, value := range properties {
		all[key] = value
	}
	all[keyRepoTag], all["arv:docker-image-pdh"] = name, arvados.PortableDataHash(manifest)
	s.make(c, s.user, "collections", attrs{"manifest_text": manifest, "properties": all})
}

func (s *badInputSuite) TestTwoFiles(c *check.C) {
	archive, err := io.ReadAll(s.archive(c))
	c.Assert(err, check.IsNil)
	found, err := dockerimage.Resolve(s.ctx, s.user, "intact:1", dockerimage.Policy{})
	c.Assert(err, check.IsNil)
	s.storeFiles(c, found.Properties.Map(), "two:1", archive, []byte("text"))
	for _, args := range []string{"inspect|two:1", "save|two:1", "tag|two:1|new:1"} {
		s.refused(c, "two files", call{}, `request: find image "two:1": .*x\w{4}-4zz18-\w{15}.*2 files.*`, strings.Split(args, "|")...)
	}
	a := s.callWith(c, call{}, "verify", "two:1")
	c.Check(a.code, check.Equals, 1)
	c.Check(a.out, check.Matches, `x\w{4}-4zz18-\w{15}: it has 2 files and folders instead of one file\n`)
}

// An image that somebody has changed and stored with all properties made to fit.
func (s *badInputSuite) TestTampered(c *check.C) {
	archive, err := io.ReadAll(s.archive(c))
	c.Assert(err, check.IsNil)
	found, err := dockerimage.Resolve(s.ctx, s.user, "intact:1", dockerimage.Policy{})
	c.Assert(err, check.IsNil)
	at := func(text string, after int) int { return bytes.Index(archive, []byte(text)) + after }
	var transcript strings.Builder
	for _, trial := range []struct {
		what  string
		where int
		loads bool // what load makes anew
	}{
		{"tar header, name", 10, false},
		{"tar header, time", 140, false},
		{"layer", 512 + 1000, false},
		{"large layer", 1 << 20 * 3, false},
		{"padding after a layer", 512 + 3000 + 3, true},
		{"config", at(`"architecture"`, 3), false},
		{"manifest", at(`"schemaVersion":2`, 3), false},
		{"manifest.json", at(`[{"Config"`, 12), false},
		{"index.json", bytes.LastIndex(archive, []byte(`"sha256:`)) + 9, true},
		{"oci-layout", at(`imageLayoutVersion`, 22), true},
		{"end", len(archive) - 3, true},
	} {
		changed := bytes.Clone(archive)
		changed[trial.where] ^= 1
		name := strings.NewReplacer(" ", "-", ",", "").Replace(trial.what) + ":1"
		s.storeFiles(c, found.Properties.Map(), name, changed)
		a := s.callWith(c, call{}, "verify", name)
		c.Check(a.code, check.Equals, 1, check.Commentf("%s", trial.what))
		transcript.WriteString("$ arv-docker verify " + name + "\n" + a.out + a.err + "\n")

		output := filepath.Join(c.MkDir(), "image.tar")
		saved := s.callWith(c, call{}, "save", "-o", output, name)
		if !trial.loads {
			c.Check(saved.code, check.Equals, 1, check.Commentf("%s", trial.what))
			c.Check(saved.err, check.Matches, `(?s).*arv-docker: request: save image in collection .* \(what was written is not to be used, and arv-docker verify says more; store the image again\)\n`)
			_, err := os.Stat(output)
			c.Check(os.IsNotExist(err), check.Equals, true)
			s.refused(c, trial.what, call{stdin: bytes.NewReader(changed)}, `request: read image archive.*`, "load", "-")
		}
		// What loads is the image that was stored, whatever is beside it.
		again := s.callWith(c, call{stdin: bytes.NewReader(changed)}, "load", "-q", "-")
		if again.code == 0 {
			c.Check(again.out, check.Equals, found.PDH+"\n", check.Commentf("%s", trial.what))
		}
	}
	golden(c, "verify-tampered", transcript.String())
}
