// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
	"github.com/spf13/cobra"
)

func (p *Program) saveCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "save [OPTIONS] IMAGE",
		Short: "Write an image in Keep as a tar file, for docker load",
		Long: `Write an image in Keep as a tar file, for docker load and other programs: the
stored file, byte for byte. It has no names in it; docker tag gives them.
IMAGE is a name, a hash or a portable data hash.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if output == "" && isTerminal(p.Stdout) {
				return wrong("standard output", errors.New("it is a terminal, and an image is no text"), "redirect it, or name a file with --output")
			}
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			return s.save(ctx, args[0], output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	return cmd
}

// isTerminal reports whether w is one, or another character device.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// save copies the file of an image collection.
func (s *session) save(ctx context.Context, name, output string) error {
	found, err := s.resolve(ctx, name)
	if err != nil {
		return err
	}
	files, err := keepfile.ParseManifest(found.ManifestText)
	if err != nil {
		return err
	}
	if output == "" {
		return s.copyImage(ctx, found.UUID, files[0], s.Stdout)
	}
	// Renamed into place, so that there is never half an image.
	unfinished, err := os.CreateTemp(filepath.Dir(output), filepath.Base(output)+".*")
	if err != nil {
		return wrong("--output", err, "name a file in a folder that you can write to")
	}
	defer os.Remove(unfinished.Name()) // it is gone if all went well
	err = s.copyImage(ctx, found.UUID, files[0], unfinished)
	if err := errors.Join(err, unfinished.Close()); err != nil {
		return err
	}
	return os.Rename(unfinished.Name(), output)
}

// copyImage copies the file of a collection to where an image is wanted, and
// fails if it is not the one that it is called.
func (s *session) copyImage(ctx context.Context, uuid string, file keepfile.File, to io.Writer) error {
	r, w := io.Pipe()
	defer w.Close()
	scanned := make(chan error, 1)
	go func() {
		err := checkImage(r, file.Path)
		_ = r.CloseWithError(err) // ends the copying
		scanned <- err
	}()
	err := s.copyFile(ctx, file, io.MultiWriter(to, w))
	_ = w.CloseWithError(err) // nil is the end
	if damage := <-scanned; damage != nil && (err == nil || errors.Is(err, damage)) {
		return &fault.Error{Op: "save image in collection", Side: fault.Request, Subject: uuid, Err: damage,
			Hint: "what was written is not to be used, and arv-docker verify says more; store the image again"}
	}
	return err
}

// checkImage reads an archive and sees whether it is an image of that file name
// with all its layers.
func checkImage(r io.Reader, name string) error {
	archive, err := imagetar.ScanArchive(r, hashSink{})
	if err != nil {
		return err
	}
	config := digestOf(archive.Image.Config)
	for _, digest := range append(archive.Image.Digests, config) { // some programs call an image by its manifest
		if dockerimage.FileName(digest) == name {
			return nil
		}
	}
	return fmt.Errorf("its file is called %s but holds image %s", name, config)
}

// hashSink looks at layers without keeping them.
type hashSink struct{}

// Blob implements imagetar.BlobSink.
func (hashSink) Blob(_ string, _ int64, r io.Reader) (imagetar.BlobInfo, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	return imagetar.BlobInfo{Digest: fmt.Sprintf("sha256:%x", hash.Sum(nil)), Size: n}, err
}

// copyFile copies a file in Keep, whose blocks are checked as they come.
func (s *session) copyFile(ctx context.Context, file keepfile.File, to io.Writer) error {
	kc, err := s.keep(ctx)
	if err != nil {
		return err
	}
	defer s.done()
	r := keepfile.NewReader(ctx, kc, file)
	defer r.Close()
	show := s.transfer("saved")
	counted := &counter{r: r, count: func(n int64) { show(n, file.Size()) }}
	buffered := bufio.NewWriterSize(to, 1<<20)
	if _, err := io.Copy(buffered, counted); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return &fault.Error{Op: "write the image", Side: fault.Request, Err: err}
	}
	return nil
}

// counter tells how many bytes have been read.
type counter struct {
	r     io.Reader
	n     int64
	count func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.count(c.n)
	return n, err
}
