// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"
)

// craneStep is `crane pull REF FILE`.
func craneStep(ctx context.Context, args []string) error {
	image, err := crane.Pull(args[0], crane.WithContext(ctx))
	if err != nil {
		return err
	}
	return crane.Save(image, args[0], args[1])
}

// ceilingStep is the least that must be done to bring an image into Keep with
// everything checked: download each layer, SHA-256 it, and MD5 and post each
// 64 MiB of it, four blocks at a time. Nothing is laid out, reused, resumed or
// recorded. It prints the seconds until 64 MiB were downloaded.
func ceilingStep(ctx context.Context, args []string) error {
	ref, keep, token := args[0], args[1], args[2]
	started := time.Now()
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	image, err := remote.Image(tag, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	const blockSize = 64 << 20
	free := make(chan []byte, 4)
	for range cap(free) {
		free <- make([]byte, blockSize)
	}
	posts, ctx := errgroup.WithContext(ctx)
	first := true
	for _, layer := range manifest.Layers {
		resp, err := http.Get(fmt.Sprintf("http://%s/v2/%s/blobs/%s", tag.RegistryStr(), tag.RepositoryStr(), layer.Digest))
		if err != nil {
			return err
		}
		digest := sha256.New()
		for {
			buf := <-free
			n := 0
			for err = nil; n < blockSize && err == nil; {
				var m int
				m, err = resp.Body.Read(buf[n:min(n+1<<18, blockSize)])
				digest.Write(buf[n : n+m])
				n += m
			}
			if first {
				fmt.Println(time.Since(started).Seconds())
				first = false
			}
			posts.Go(func() error {
				defer func() { free <- buf }()
				return post(ctx, keep, token, buf[:n])
			})
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
		resp.Body.Close()
		if got := fmt.Sprintf("sha256:%x", digest.Sum(nil)); got != layer.Digest.String() {
			return fmt.Errorf("layer %s has digest %s", layer.Digest, got)
		}
	}
	return posts.Wait()
}

func post(ctx context.Context, keep, token string, block []byte) error {
	req, err := http.NewRequestWithContext(ctx, "PUT", fmt.Sprintf("%s/%x", keep, md5.Sum(block)), bytes.NewReader(block))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("PUT block: %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
