// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
	"git.arvados.org/arvados.git/services/localcluster"
)

// sources are the files of a build context, with random content: the same ones
// for the same numbers. A busybox is among them, for RUN steps.
type sources struct {
	files int
	size  int64 // of all together, nearly
}

// each hands over all files, in the order of their names.
func (s sources) each(add func(name string, content io.Reader) error) error {
	program, err := os.Open("/bin/busybox")
	if err != nil {
		return err
	}
	defer program.Close()
	if err := add("bin/busybox", program); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{})
	for i := range s.files {
		size := s.size / int64(s.files) * int64(i%7+1) / 4 // the mean of 1 to 7 is 4
		if err := add(fmt.Sprintf("data/%03d/%02d", i/100, i%100), io.LimitReader(random, size)); err != nil {
			return err
		}
	}
	return nil
}

func (s sources) inFolder(dir string) error {
	return s.each(func(name string, content io.Reader) error {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0755); err != nil {
			return err
		}
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0755)
		if err != nil {
			return err
		}
		if _, err := io.Copy(file, content); err != nil {
			file.Close()
			return err
		}
		return file.Close()
	})
}

// inKeep makes a collection of the files.
func (s sources) inKeep(ctx context.Context, c *cluster) (pdh string, err error) {
	client := c.UserClient(localcluster.User)
	keep, err := keepOf(client)
	if err != nil {
		return "", err
	}
	pack := keepfile.NewPacker(ctx, keepfile.NewWriter(keep, 2, arvados.BlockWriteOptions{}))
	if err := s.each(pack.Add); err != nil {
		pack.Abort()
		return "", err
	}
	files, err := pack.Close()
	if err != nil {
		return "", err
	}
	var coll arvados.Collection
	err = client.RequestAndDecodeContext(ctx, &coll, "POST", "arvados/v1/collections", nil, map[string]interface{}{
		"collection": map[string]interface{}{"manifest_text": keepfile.FormatManifest(files)},
		"select":     []string{"portable_data_hash"},
	})
	return coll.PortableDataHash, err
}

// keepOf is Keep as crunch-run uses it.
func keepOf(client *arvados.Client) (*keepclient.KeepClient, error) {
	arv, err := arvadosclient.New(client)
	if err != nil {
		return nil, err
	}
	keep, err := keepclient.MakeKeepClient(arv)
	if err == nil {
		keep.DiskCacheSize = keepclient.DiskCacheDisabled
	}
	return keep, err
}
