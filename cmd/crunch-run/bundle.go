// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
)

// A bundle is one file for dispatchers that copy one file to their nodes: this
// program, the site's stock crunch-run, the number of the latter's bytes (64 bits,
// big-endian), and a mark.
const bundleMark = "\narvados-builtin-bundle\n"

const bundleTail = 8 + len(bundleMark)

// versionTime is how long a program may take to say its version.
const versionTime = 20 * time.Second

// bundled is the stock crunch-run in the file of a bundle; nil if it is none.
func bundled(f *os.File) (*io.SectionReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	tail := make([]byte, bundleTail)
	at := info.Size() - int64(bundleTail)
	if at < 0 {
		return nil, nil
	}
	if _, err := f.ReadAt(tail, at); err != nil {
		return nil, err
	}
	if string(tail[8:]) != bundleMark {
		return nil, nil
	}
	size := binary.BigEndian.Uint64(tail)
	if size == 0 || size >= uint64(at) {
		return nil, fmt.Errorf("%s is a damaged bundle: make it again", f.Name())
	}
	return io.NewSectionReader(f, at-int64(size), int64(size)), nil
}

// makeBundle writes a bundle of this program and the stock crunch-run at path.
// A file that is there is replaced once the new one is whole.
func makeBundle(path, out string, stdout io.Writer) error {
	if out == "" {
		return errors.New("-bundle: name the file to be written by -o")
	}
	self, err := os.Open(ownProgram)
	if err != nil {
		return err
	}
	defer self.Close()
	front, err := frontOf(self)
	if err != nil {
		return err
	}
	program, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("-bundle: %w", err)
	}
	defer program.Close()
	needed, version, err := bundleable(self, program)
	if err != nil {
		return fmt.Errorf("-bundle: %s: %w", path, err)
	}
	size, err := writeBundle(front, needed, out)
	if err != nil {
		return fmt.Errorf("-o: %w", err)
	}
	fmt.Fprintf(stdout, "%s, %d MiB: builtin commands %q, and for all else %s\n", out, size>>20, builtin.Names(), version)
	return nil
}

// frontOf is this program without what a bundle has behind it.
func frontOf(self *os.File) (*io.SectionReader, error) {
	payload, err := bundled(self)
	if err != nil {
		return nil, err
	}
	info, err := self.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if payload != nil {
		size -= payload.Size() + int64(bundleTail)
	}
	return io.NewSectionReader(self, 0, size), nil
}

// bundleable sees whether a program can stand behind this one, and says which
// version it is. needed is what of its file is used when it runs: what follows is
// for debuggers, and would be copied into memory at each start.
func bundleable(self, program *os.File) (needed *io.SectionReader, version string, err error) {
	ours, err := elf.NewFile(self)
	if err != nil {
		return nil, "", err
	}
	theirs, err := elf.NewFile(program)
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("it is no program file: %w", err)
	case theirs.Machine != ours.Machine:
		return nil, "", fmt.Errorf("it is for %v, and this program for %v", theirs.Machine, ours.Machine)
	}
	ctx, cancel := context.WithTimeout(context.Background(), versionTime)
	defer cancel()
	version, err = stock{path: program.Name()}.version(ctx)
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("it does not answer as Arvados's crunch-run does: %w; name that one, such as %s", err, stockPackage)
	case !strings.HasPrefix(version, stockName+" "):
		return nil, "", fmt.Errorf("it does not answer as Arvados's crunch-run does, but %.100q; name that one, such as %s", version, stockPackage)
	}
	var size uint64
	for _, part := range theirs.Progs {
		size = max(size, part.Off+part.Filesz)
	}
	return io.NewSectionReader(program, 0, int64(size)), version, nil
}

func writeBundle(front, program *io.SectionReader, out string) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(out), filepath.Base(out)+".*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name()) // does nothing once it has its name
	defer f.Close()
	if _, err := io.Copy(f, front); err != nil {
		return 0, err
	}
	n, err := io.Copy(f, program)
	if err != nil {
		return 0, err
	}
	tail := binary.BigEndian.AppendUint64(nil, uint64(n))
	if _, err := io.Copy(f, bytes.NewReader(append(tail, bundleMark...))); err != nil {
		return 0, err
	}
	if err := errors.Join(f.Chmod(0755), f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	return front.Size() + n + int64(bundleTail), os.Rename(f.Name(), out)
}
