// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const (
	imagePath = "/bin/demo" // this program, in the image
	greetArg  = "greet"     // what makes it greet there
)

// greet is what the image does when it runs.
func greet() {
	host, _ := os.Hostname()
	fmt.Printf("Hello from a container of an image that Arvados pulled itself (host name %s)\n", host)
}

// serveImage makes an image of one layer, this very program, and serves it.
func serveImage(self string) (server *httptest.Server, ref string, err error) {
	program, err := os.ReadFile(self)
	if err != nil {
		return nil, "", err
	}
	var layerTar bytes.Buffer
	w := tar.NewWriter(&layerTar)
	if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(imagePath, "/"), Mode: 0755, Size: int64(len(program))}); err != nil {
		return nil, "", err
	}
	if _, err := w.Write(program); err != nil {
		return nil, "", err
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(layerTar.Bytes())), nil
	})
	if err != nil {
		return nil, "", err
	}
	image, err := mutate.Append(empty.Image, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "make demo"}})
	if err != nil {
		return nil, "", err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, "", err
	}
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Created = v1.Time{Time: time.Now().UTC()}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, "", err
	}
	server = httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	ref = strings.TrimPrefix(server.URL, "http://") + "/demo/hello:1.0"
	tag, err := name.NewTag(ref)
	if err == nil {
		err = remote.Write(tag, image, remote.WithTransport(http.DefaultTransport))
	}
	if err != nil {
		server.Close()
	}
	return server, ref, err
}
