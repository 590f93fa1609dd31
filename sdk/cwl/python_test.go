// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package cwl

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

type suite struct{}

// python is the Python of the virtual environment that build/need-test-tools
// makes.
func python(c *check.C) string {
	cache, err := os.UserCacheDir()
	c.Assert(err, check.IsNil)
	return filepath.Join(cache, "arvados-builtin", "python", "bin", "python")
}

// The tests of the Python code. Those in test_cluster start an embedded cluster,
// of the programs that are built here.
func (*suite) TestPython(c *check.C) {
	programs := c.MkDir()
	build := exec.Command("go", "build", "-o", programs+"/", "./cmd/arv-docker", "./cmd/arvados-local", "./cmd/crunch-run")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	image := exec.Command("build/need-jobs-image")
	image.Dir = "../.."
	out, err = image.CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	cmd := exec.Command(python(c), "-m", "unittest", "discover", "--buffer", "-s", ".", "-t", ".")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "ARVADOS_TEST_PROGRAMS="+programs)
	out, err = cmd.CombinedOutput()
	c.Check(err, check.IsNil, check.Commentf("%s", out))
}

// The files do the same from wherever they are put.
func (*suite) TestFiles(c *check.C) {
	folder := c.MkDir()
	var paths []string
	err := fs.WalkDir(Files(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		paths = append(paths, path)
		content, err := fs.ReadFile(Files(), path)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0644)
		if filepath.Dir(path) == Programs {
			mode = 0755
		}
		path = filepath.Join(folder, path)
		if err := os.MkdirAll(filepath.Dir(path), 0777); err != nil {
			return err
		}
		return os.WriteFile(path, content, mode)
	})
	c.Assert(err, check.IsNil)
	c.Check(paths, check.DeepEquals, []string{
		"arvados_builtin_cwl/__init__.py", "arvados_builtin_cwl/client.py", "arvados_builtin_cwl/dockerfile.py",
		"arvados_builtin_cwl/documents.py", "arvados_builtin_cwl/images.py", "arvados_builtin_cwl/main.py",
		"arvados_builtin_cwl/recipe.py", "bin/arvados-cwl-runner",
	})
	cmd := exec.Command(filepath.Join(folder, Programs, "arvados-cwl-runner"), "--version")
	cmd.Env = []string{"PATH=" + filepath.Join(folder, Programs) + ":" + filepath.Dir(python(c)) + ":/usr/bin:/bin", "HOME=" + folder}
	out, err := cmd.CombinedOutput()
	c.Check(err, check.IsNil, check.Commentf("%s", out))
	c.Check(strings.HasPrefix(string(out), "arvados-cwl-runner "), check.Equals, true, check.Commentf("%s", out))
}
