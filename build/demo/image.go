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
	"os/exec"
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
	busyboxPath = "/bin/busybox" // of Debian's busybox-static, and in the image
	demoPath    = "/bin/demo"    // this program, in the image
	greetArg    = "greet"        // what makes it greet there
)

// greet is what the image does when it runs.
func greet() {
	host, _ := os.Hostname()
	fmt.Printf("Hello from a container of an image that Arvados pulled itself (host name %s)\n", host)
}

// serveImage makes an image of two layers, busybox with a link for each of its
// commands and this very program, and serves it.
func serveImage(self string) (server *httptest.Server, ref string, err error) {
	shell, err := busyboxLayer()
	if err != nil {
		return nil, "", err
	}
	greeter, err := layer(func(w *tar.Writer) error { return addProgram(w, self, demoPath) })
	if err != nil {
		return nil, "", err
	}
	history := v1.History{CreatedBy: "make demo"}
	image, err := mutate.Append(empty.Image, mutate.Addendum{Layer: shell, History: history}, mutate.Addendum{Layer: greeter, History: history})
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

func busyboxLayer() (v1.Layer, error) {
	commands, err := exec.Command(busyboxPath, "--list").Output()
	if err != nil {
		return nil, err
	}
	return layer(func(w *tar.Writer) error {
		if err := addProgram(w, busyboxPath, busyboxPath); err != nil {
			return err
		}
		for _, command := range strings.Fields(string(commands)) {
			if command == "busybox" {
				continue
			}
			link := &tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + command, Linkname: busyboxPath, Mode: 0777}
			if err := w.WriteHeader(link); err != nil {
				return err
			}
		}
		return nil
	})
}

// layer is a layer with what fill writes.
func layer(fill func(*tar.Writer) error) (v1.Layer, error) {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	if err := fill(w); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content.Bytes())), nil
	})
}

// addProgram adds a program of this machine.
func addProgram(w *tar.Writer, from, to string) error {
	program, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(to, "/"), Mode: 0755, Size: int64(len(program))}); err != nil {
		return err
	}
	_, err = w.Write(program)
	return err
}
