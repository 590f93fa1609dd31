// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/check.v1"
)

// dockerProgram is Debian's. Newer ones than 20.10 cannot do a build without
// another program.
const dockerProgram = "/usr/bin/docker"

// dockerCLI is the docker program with an engine.
type dockerCLI struct {
	host   string // "" for the default
	config string // folder of its settings
}

// command prepares a run with BuildKit, and without the caller's settings.
func (cli dockerCLI) command(words ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	cmd, stderr = exec.Command(dockerProgram, words...), &bytes.Buffer{}
	cmd.Env = []string{"DOCKER_BUILDKIT=1", "BUILDKIT_PROGRESS=plain", "DOCKER_CONFIG=" + cli.config, "DOCKER_HOST=" + cli.host, "PATH=" + os.Getenv("PATH")}
	cmd.Stderr = stderr
	return cmd, stderr
}

// run gives what the program prints.
func (cli dockerCLI) run(stdin io.Reader, words ...string) (string, error) {
	cmd, stderr := cli.command(words...)
	cmd.Stdin = stdin
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %q: %w: %s", words, err, stderr)
	}
	return string(out), nil
}

// build builds a recipe, whose files are in a folder.
func (cli dockerCLI) build(r recipe, dir, secret, prefix string) (o outcome) {
	for _, words := range r.builds(prefix) {
		if slices.Contains(words, "Dockerfile.first") {
			// Its name goes to another image in the next recipe.
			defer cli.run(nil, "rmi", "-f", prefix+"/first")
		}
		var err error
		if o, err = cli.buildOne(r, words, dir, secret, prefix); err != nil {
			return outcome{problem: err.Error()}
		}
	}
	return o
}

func (cli dockerCLI) buildOne(r recipe, words []string, dir, secret, prefix string) (o outcome, err error) {
	idFile := filepath.Join(filepath.Dir(secret), "id")
	all := []string{"build", "--iidfile", idFile}
	for _, word := range words {
		if r.secretPath != "" {
			word = strings.ReplaceAll(word, "src="+r.secretPath, "src="+secret)
		}
		all = append(all, word)
	}
	cmd, stderr := cli.command(append(all, ".")...)
	cmd.Dir = dir
	if err := cmd.Run(); err != nil {
		return outcome{}, fmt.Errorf("%w: %s", err, stderr)
	}
	content, err := os.ReadFile(idFile)
	if err != nil {
		return outcome{}, err
	}
	id := string(content)
	text, err := cli.run(nil, "image", "inspect", "--format", "{{json .RepoTags}}", id)
	if err != nil {
		return outcome{}, err
	}
	var names []string // also others, of the same image
	if err := json.Unmarshal([]byte(text), &names); err != nil {
		return outcome{}, err
	}
	for _, name := range names {
		if strings.HasPrefix(name, prefix+"/out:") {
			o.names = append(o.names, name)
		}
	}
	slices.Sort(o.names)
	if slices.Contains(words, "Dockerfile.first") {
		return o, nil // the next build needs it
	}
	if o.image, err = cli.describe(id); err != nil {
		return outcome{}, err
	}
	if len(names) == 0 {
		_, err = cli.run(nil, "rmi", id)
	} // else forget does it
	return o, err
}

// describe saves an image and describes the archive.
func (cli dockerCLI) describe(id string) (described, error) {
	cmd, stderr := cli.command("save", id)
	archive, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	image, err := describe(archive)
	if ended := cmd.Wait(); ended != nil {
		return nil, fmt.Errorf("docker save: %w: %s", ended, stderr)
	}
	return image, err
}

// forget removes the images with the prefix.
func (cli dockerCLI) forget(c *check.C, prefix string) {
	names, err := cli.run(nil, "images", "--filter", "reference="+prefix+"/*", "--format", "{{.Repository}}:{{.Tag}}")
	c.Check(err, check.IsNil)
	for _, name := range strings.Fields(names) {
		_, err := cli.run(nil, "rmi", "-f", name)
		c.Check(err, check.IsNil)
	}
}
