// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package arrows holds the imports between the packages of this module to the
// architecture. It has no code of its own.
package arrows

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"testing"

	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

type suite struct{}

const module = "git.arvados.org/arvados.git/"

// rows say which packages of ours each package may reach, directly or through
// others. A row with a trailing slash is for all packages below; the longest
// one that fits holds. "sdk" stands for sdk/go.
var rows = map[string][]string{
	"sdk/":                    {"sdk"},
	"lib/fault":               {},
	"lib/version":             {},
	"lib/imageref":            {"lib/fault"},
	"lib/imagetar/":           {"lib/fault", "lib/imageref"},
	"lib/keepfile/":           {"lib/fault", "sdk"},
	"lib/dockerimage/":        {"lib/fault", "lib/imageref", "lib/imagetar", "lib/keepfile", "sdk"},
	"lib/imagesource/":        {"lib/fault", "lib/imageref", "lib/imagetar"},
	"lib/buildcontext":        {"lib/fault", "lib/keepfile", "sdk"},
	"lib/dockerfile":          {"lib/fault", "lib/imageref"},
	"lib/builtin/":            {"lib/buildcontext", "lib/dockerfile", "lib/fault", "lib/imageref", "lib/imagetar", "lib/keepfile", "lib/dockerimage", "lib/imagesource", "sdk"},
	"lib/builtinrun":          {"lib/builtin", "lib/buildcontext", "lib/dockerfile", "lib/fault", "lib/imageref", "lib/imagetar", "lib/keepfile", "lib/dockerimage", "lib/imagesource", "sdk"},
	"lib/builtinhost":         {"lib/builtin", "lib/buildcontext", "lib/dockerfile", "lib/fault", "lib/imageref", "lib/imagetar", "lib/keepfile", "lib/dockerimage", "lib/imagesource", "sdk"},
	"lib/arvdocker":           {"lib/builtin", "lib/buildcontext", "lib/fault", "lib/imagemigrate", "lib/imageref", "lib/imagetar", "lib/keepfile", "lib/dockerimage", "lib/imagesource", "lib/version", "sdk"},
	"lib/dockerstandin":       {"lib/arvdocker", "lib/builtin", "lib/buildcontext", "lib/fault", "lib/imagemigrate", "lib/imageref", "lib/imagetar", "lib/keepfile", "lib/dockerimage", "lib/imagesource", "lib/version", "sdk"},
	"lib/keepdocker":          {"lib/fault", "lib/imageref", "lib/imagetar", "lib/keepfile", "lib/dockerimage", "lib/imagesource", "lib/version", "sdk"},
	"lib/imageresolve":        {"lib/dockerimage", "lib/fault", "lib/imageref", "lib/imagetar", "lib/keepfile", "sdk"},
	"lib/imagemigrate/":       {"lib/dockerimage", "lib/fault", "lib/imageref", "lib/imagetar", "lib/keepfile", "sdk"},
	"services/localapi/":      {"lib/dockerimage", "lib/fault", "lib/imageref", "lib/imagetar", "lib/keepfile", "sdk"},
	"services/localkeep":      {"sdk"},
	"services/localcluster":   {"services/localapi", "services/localkeep", "services/localdispatch", "lib", "sdk"},
	"services/localdispatch":  {"sdk"},
	"services/localdispatch/": {"lib", "sdk"},
	"cmd/":                    {"lib", "services", "sdk"},
	"build/":                  {"lib", "services", "sdk"},
	"lib/arrows":              {},
}

// only says which package alone may import a foreign one.
var only = map[string]string{
	"github.com/docker/docker/client":                      "lib/imagesource/engine",
	"github.com/moby/buildkit/client":                      "lib/imagesource/engine",
	"github.com/google/go-containerregistry/pkg/v1/remote": "lib/imagesource/registry",
	"github.com/go-git/go-git/v5/plumbing/transport/http":  "lib/buildcontext",
	"github.com/jackc/pgx/v5":                              "lib/imagemigrate/sqlstore",
	"modernc.org/sqlite":                                   "services/localapi",
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(c *check.C) map[string][]string {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
	c.Assert(err, check.IsNil)
	imports := map[string][]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return imports
		} else {
			c.Assert(err, check.IsNil)
		}
		imports[p.ImportPath] = p.Imports
	}
}

func rowFor(path string) (row []string, ok bool) {
	best := -1
	for name, allowed := range rows {
		fits := path == name || strings.HasSuffix(name, "/") && strings.HasPrefix(path+"/", name)
		if fits && len(name) > best {
			best, row, ok = len(name), allowed, true
		}
	}
	return row, ok
}

func (*suite) TestImportsStayInTheirRows(c *check.C) {
	imports := packages(c)
	for _, path := range sorted(imports) {
		short := strings.TrimPrefix(path, module)
		row, ok := rowFor(short)
		if !ok {
			c.Errorf("%s has no row: say what it may import", short)
			continue
		}
		family, _, _ := strings.Cut(short, "/")
		for chain := range chainsFrom(path, imports) {
			last := strings.TrimPrefix(chain[len(chain)-1], module)
			allowed := slices.ContainsFunc(row, func(prefix string) bool {
				return last == prefix || strings.HasPrefix(last, prefix+"/")
			})
			if sibling := sameFolder(short, last); !allowed && !sibling && !(family == "sdk" && strings.HasPrefix(last, "sdk/")) {
				c.Errorf("%s may not import %s: %s", short, last, strings.Join(chain, " -> "))
			}
		}
	}
}

func (*suite) TestForeignPackagesHaveOneDoor(c *check.C) {
	for path, list := range packages(c) {
		short := strings.TrimPrefix(path, module)
		for foreign, door := range only {
			if slices.Contains(list, foreign) && short != door && !strings.HasPrefix(short, "build/") {
				c.Errorf("%s imports %s; only %s may", short, foreign, door)
			}
		}
	}
}

// sameFolder: a package and the ones below it are one thing to the outside.
func sameFolder(a, b string) bool {
	return strings.HasPrefix(a+"/", b+"/") || strings.HasPrefix(b+"/", a+"/")
}

// chainsFrom yields, for each package of ours that path reaches, a shortest
// chain of imports to it.
func chainsFrom(path string, imports map[string][]string) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		seen := map[string]bool{path: true}
		for queue := [][]string{{path}}; len(queue) > 0; queue = queue[1:] {
			chain := queue[0]
			for _, next := range imports[chain[len(chain)-1]] {
				if seen[next] || !strings.HasPrefix(next, module) {
					continue
				}
				seen[next] = true
				longer := append(slices.Clone(chain), next)
				if !yield(longer) {
					return
				}
				queue = append(queue, longer)
			}
		}
	}
}

func sorted(imports map[string][]string) []string {
	var paths []string
	for path := range imports {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	return paths
}
