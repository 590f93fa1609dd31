// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imageresolve"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
)

// findThroughLayer makes container requests that name their image, directly and
// through the layer that resolves names, by turns.
func findThroughLayer(ctx context.Context, c *cluster) ([]figure, error) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	handler := imageresolve.New(imageresolve.Config{
		Controller: &url.URL{Scheme: "https", Host: c.APIAddress},
		TLS:        &tls.Config{InsecureSkipVerify: true},
		Policy:     dockerimage.Policy{Links: true},
		Log:        log,
	})
	defer handler.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: handler}
	defer server.Close()
	go server.Serve(listener)

	direct := c.UserClient(localcluster.User)
	layered := c.UserClient(localcluster.User)
	layered.Scheme, layered.APIHost = "http", listener.Addr().String()
	var create, read [2][]float64
	for range resolutions {
		name := storedImage(rand.IntN(imagesStored)).name
		for i, client := range []*arvados.Client{direct, layered} {
			var made arvados.ContainerRequest
			started := time.Now()
			err := client.RequestAndDecodeContext(ctx, &made, "POST", "arvados/v1/container_requests", nil, map[string]interface{}{
				"container_request": map[string]interface{}{
					"container_image":     name,
					"command":             []string{"true"},
					"mounts":              map[string]interface{}{"/out": map[string]interface{}{"kind": "tmp"}},
					"output_path":         "/out",
					"runtime_constraints": map[string]interface{}{"vcpus": 1, "ram": 1 << 20},
				}})
			if err != nil {
				return nil, err
			}
			create[i] = append(create[i], time.Since(started).Seconds()*1000)
			started = time.Now()
			if err := client.RequestAndDecodeContext(ctx, &made, "GET", "arvados/v1/container_requests/"+made.UUID, nil, nil); err != nil {
				return nil, err
			}
			read[i] = append(read[i], time.Since(started).Seconds()*1000)
		}
	}
	with, without := median(create[1]), median(create[0])
	return []figure{newFigure("find.layer_overhead_ms", with-without, "ms", "<= 5",
		"a request that names its image made in %.1f ms, directly in %.1f ms; read in %.1f ms, directly in %.1f ms",
		with, without, median(read[1]), median(read[0]))}, nil
}
