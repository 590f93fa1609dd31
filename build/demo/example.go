// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// siteBuild lets the results of steps stay in the engine's build cache. That is
// also the cache of all others who use the engine; the size keeps a build from
// making room in it at their expense.
const siteBuild = "build:\n  cache: user\n  cache_size: 100TB\n"

// example is the folder that is built, below doc/examples.
const example = "kmers"

// edit is the change of the recipe, and what is not affected by it: the start
// of the lines in the log about steps above.
var edit = struct {
	file, before, after string
	cached              []string
}{"Dockerfile", "ARG K=2\n", "ARG K=3\n", []string{"COPY kmers ", "COPY reference.fasta ", "RUN kmers check "}}

// buildAndRun builds the example upon an image that Keep has, runs it, edits the
// recipe, builds and runs again, and asks for the same build once more.
func (c *cluster) buildAndRun(ctx context.Context, folder, base string) error {
	if err := c.site(siteBuild); err != nil {
		return err
	}
	step("Storing the folder doc/examples/%s in Keep", example)
	files, err := readFolder(folder)
	if err != nil {
		return err
	}
	first, err := c.store(ctx, "recipe of "+example, files)
	if err != nil {
		return err
	}
	built, err := c.build(ctx, first, base, example+":1")
	if err != nil {
		return err
	}
	if err := showImage(built.output); err != nil {
		return err
	}
	before, err := c.try(ctx, example+":1", first)
	if err != nil {
		return err
	}

	step("Editing the recipe: %q becomes %q", edit.before, edit.after)
	if bytes.Count(files[edit.file], []byte(edit.before)) != 1 {
		return fmt.Errorf("%s has not one line %q", edit.file, edit.before)
	}
	files[edit.file] = bytes.Replace(files[edit.file], []byte(edit.before), []byte(edit.after), 1)
	second, err := c.store(ctx, "edited recipe of "+example, files)
	if err != nil {
		return err
	}
	rebuilt, err := c.build(ctx, second, base, example+":2")
	if err != nil {
		return err
	}
	cached, err := cachedSteps(rebuilt.stdout)
	if err != nil {
		return err
	}
	after, err := c.try(ctx, example+":2", second)
	if err != nil {
		return err
	}
	if before.stdout == after.stdout {
		return errors.New("the edited recipe gives the same result")
	}

	step("The same request again: nothing has changed")
	again, err := c.build(ctx, second, base, example+":2")
	if err != nil {
		return err
	}
	if again.output.PortableDataHash != rebuilt.output.PortableDataHash || !strings.Contains(again.stdout, "the same recipe was built before") {
		return errors.New("an unchanged recipe was built again")
	}

	step("Both results")
	sayLines(example+":1", before.stdout)
	sayLines(example+":2", after.stdout)
	step("What was not done twice")
	say("%s:1, all steps run:            %.1f s", example, built.took.Seconds())
	say("%s:2, recipe edited:            %.1f s; from the cache:", example, rebuilt.took.Seconds())
	for _, line := range cached {
		say("    %s", line)
	}
	say("%s:2 again, recipe unchanged:   %.1f s, no build: found by its content key", example, again.took.Seconds())
	return nil
}

// build builds what a collection has. A builder with containerd's image store
// does not find the results of steps again while the engine has the image too
// that they build upon, so what containers were run of goes first.
func (c *cluster) build(ctx context.Context, source, base, tag string) (*finished, error) {
	if err := c.cleaner.removeImages(ctx); err != nil {
		return nil, err
	}
	command := []string{"docker", "build", "--tag", tag, "--build-arg", "BASE=" + base, "/src"}
	step(`Submitting a container request: image "arvados/builtin", command %q`, command)
	return c.runRequest(ctx, request{name: "docker build " + tag, image: "arvados/builtin", command: command,
		mounts: map[string]string{"/src": source}, api: true})
}

// try runs the image on an input file.
func (c *cluster) try(ctx context.Context, tag, data string) (*finished, error) {
	command := []string{"kmers", "/data/sample.fasta"}
	step("Running the image %s: command %q", tag, command)
	return c.runRequest(ctx, request{name: "try " + tag, image: tag, command: command, mounts: map[string]string{"/data": data}})
}

// cachedSteps are the lines of a build's log about steps that were not run
// again. It is an error if one of those is missing that the edit left alone.
func cachedSteps(log string) (lines []string, err error) {
	for line := range strings.Lines(log) {
		if line = strings.TrimSpace(line); strings.HasSuffix(line, ": cached") {
			_, line, _ = strings.Cut(line, " ") // its number
			lines = append(lines, line)
		}
	}
	for _, step := range edit.cached {
		if !strings.Contains(strings.Join(lines, "\n"), "] "+step) {
			return nil, fmt.Errorf("the log does not say that the step %q came from the cache", step)
		}
	}
	return lines, nil
}

// readFolder are the files in a folder without folders.
func readFolder(folder string) (map[string][]byte, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, entry := range entries {
		if files[entry.Name()], err = os.ReadFile(filepath.Join(folder, entry.Name())); err != nil {
			return nil, err
		}
	}
	return files, nil
}
