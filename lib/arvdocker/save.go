// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/fault"
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
		return s.copyFile(ctx, files[0], s.Stdout)
	}
	// Renamed into place, so that there is never half an image.
	unfinished, err := os.CreateTemp(filepath.Dir(output), filepath.Base(output)+".*")
	if err != nil {
		return wrong("--output", err, "name a file in a folder that you can write to")
	}
	defer os.Remove(unfinished.Name()) // it is gone if all went well
	err = s.copyFile(ctx, files[0], unfinished)
	if err := errors.Join(err, unfinished.Close()); err != nil {
		return err
	}
	return os.Rename(unfinished.Name(), output)
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
	counted := &counter{r: r, count: func(n int64) { s.now("saved " + builtin.Size(n) + " of " + builtin.Size(file.Size())) }}
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
