// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
)

// benchmarkClient has one service that takes and gives full blocks of zeros.
func benchmarkClient(b *testing.B, data []byte, locator string) *KeepClient {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, locator)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data)
	}))
	b.Cleanup(server.Close)
	kc := &KeepClient{Arvados: &arvadosclient.ArvadosClient{}, Want_replicas: 1}
	kc.SetServiceRoots(map[string]string{"a": server.URL}, map[string]string{"a": server.URL}, nil)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.ResetTimer()
	return kc
}

func BenchmarkBlockWrite(b *testing.B) {
	data := make([]byte, BLOCKSIZE)
	kc := benchmarkClient(b, data, locatorOf(data))
	for b.Loop() {
		if _, err := kc.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: data}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBlockWriteWithHash(b *testing.B) {
	data := make([]byte, BLOCKSIZE)
	locator := locatorOf(data)
	kc := benchmarkClient(b, data, locator)
	for b.Loop() {
		if _, err := kc.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: data, Hash: locator[:32]}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBlockRead(b *testing.B) {
	data := make([]byte, BLOCKSIZE)
	locator := locatorOf(data)
	kc := benchmarkClient(b, data, locator)
	for b.Loop() {
		if _, err := kc.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: locator, WriteTo: io.Discard}); err != nil {
			b.Fatal(err)
		}
	}
}
