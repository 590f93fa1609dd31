// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/imagetar"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// programPackage is the main package of arv-docker.
const programPackage = "git.arvados.org/arvados.git/cmd/arv-docker"

// programFile is a file of arv-docker that runs in any image.
type programFile struct {
	path         string
	architecture string    // as image configs name it
	made         time.Time // of the commit that it was built from; zero if it does not tell
}

// openProgram looks at the program at path, or at this one if it is "".
func openProgram(path string) (*programFile, error) {
	if path == "" {
		var err error
		if path, err = os.Executable(); err != nil {
			return nil, wrong("--program", err, "name the file of an arv-docker")
		}
	}
	p := &programFile{path: path}
	if err := p.inspect(); err != nil {
		return nil, wrong("--program", fmt.Errorf("%s: %w", path, err), "name an arv-docker for Linux that make all has built, or that was built with CGO_ENABLED=0")
	}
	return p, nil
}

// architectures are the names in image configs of the machines that Arvados nodes
// may be.
var architectures = map[elf.Machine]string{
	elf.EM_X86_64:  "amd64",
	elf.EM_AARCH64: "arm64",
}

func (p *programFile) inspect() error {
	f, err := os.Open(p.path)
	if err != nil {
		return err
	}
	defer f.Close()
	file, err := elf.NewFile(f)
	if err != nil {
		return errors.New("it is no program for Linux")
	}
	var known bool
	if p.architecture, known = architectures[file.Machine]; !known {
		return fmt.Errorf("it is for %v, which no image is made for", file.Machine)
	}
	if slices.ContainsFunc(file.Progs, func(prog *elf.Prog) bool { return prog.Type == elf.PT_INTERP }) {
		return errors.New("it needs libraries that an image need not have")
	}
	info, err := buildinfo.Read(f)
	if err != nil || info.Path != programPackage {
		return errors.New("it is not arv-docker")
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.time" {
			p.made, _ = time.Parse(time.RFC3339, setting.Value) // zero is for "not known"
		}
	}
	return nil
}

// layerFile is a file to be in a layer.
type layerFile struct {
	name string // from the root, without a slash before it
	mode int64
	link string // the target, if it is a symbolic link
	text []byte // the content, unless it is a link or
	path string // the content is in this file
}

// writeLayer writes files as a layer, the same bytes each time, with the folders on
// the way to them.
func writeLayer(w io.Writer, files []layerFile) error {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b layerFile) int { return strings.Compare(a.name, b.name) })
	out := tar.NewWriter(w)
	epoch := time.Unix(0, 0)
	made := map[string]bool{".": true}
	var folder func(name string) error
	folder = func(name string) error {
		if made[name] {
			return nil
		}
		made[name] = true
		if err := folder(path.Dir(name)); err != nil {
			return err
		}
		return out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0755, ModTime: epoch, Format: tar.FormatUSTAR})
	}
	for _, file := range files {
		if err := folder(path.Dir(file.name)); err != nil {
			return err
		}
		if err := file.write(out, epoch); err != nil {
			return err
		}
	}
	return out.Close()
}

func (f layerFile) write(out *tar.Writer, epoch time.Time) error {
	hdr := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.text)), ModTime: epoch, Format: tar.FormatUSTAR}
	var content io.Reader = bytes.NewReader(f.text)
	switch {
	case f.link != "":
		hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, f.link
	case f.path != "":
		in, err := os.Open(f.path)
		if err != nil {
			return err
		}
		defer in.Close()
		info, err := in.Stat()
		if err != nil {
			return err
		}
		hdr.Size, content = info.Size(), in
	}
	if err := out.WriteHeader(hdr); err != nil {
		return err
	}
	_, err := io.Copy(out, content)
	return err
}

// newLayer is a layer of the files, which are read again each time.
func newLayer(files []layerFile) (imagetar.Layer, error) {
	sum := sha256.New()
	var size byteCount
	if err := writeLayer(io.MultiWriter(sum, &size), files); err != nil {
		return imagetar.Layer{}, wrong("--program", err, "name a file that you can read")
	}
	digest := fmt.Sprintf("sha256:%x", sum.Sum(nil))
	return imagetar.Layer{
		MediaType: ocispec.MediaTypeImageLayer,
		Digest:    digest,
		Size:      int64(size),
		DiffID:    digest,
		Open: func(context.Context) (io.ReadCloser, error) {
			r, w := io.Pipe()
			go func() { w.CloseWithError(writeLayer(w, files)) }()
			return imagetar.Verify(r, digest, int64(size)), nil
		},
	}, nil
}

// byteCount counts what is written to it.
type byteCount int64

func (n *byteCount) Write(p []byte) (int, error) {
	*n += byteCount(len(p))
	return len(p), nil
}
