// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// uploaded is one service's answer to a block.
type uploaded struct {
	server  string
	locator string
	// How many replicas it has made, and of how many it tells the storage
	// class. No classes: it does not tell.
	replicas int
	classes  map[string]int
	// Why it has made none, and whether that may pass.
	err   error
	again bool
}

// upload sends a block to one service.
func (kc *KeepClient) upload(ctx context.Context, server string, block *payload, job writeJob, classes []string) uploaded {
	result := uploaded{server: server}
	ctx, dog := kc.watch(ctx, job.services.proxies)
	defer dog.stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, server+"/"+block.hash, block.reader(dog.moved))
	if err != nil {
		result.err = err
		return result
	}
	// With it the transport can send the block on a new connection when
	// the service has just closed the idle one that it took.
	req.GetBody = func() (io.ReadCloser, error) { return block.reader(dog.moved), nil }
	req.ContentLength = int64(block.size)
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set(XKeepDesiredReplicas, strconv.Itoa(job.replicas))
	if len(classes) > 0 {
		req.Header.Set(XKeepStorageClasses, strings.Join(classes, ", "))
	}
	resp, err := kc.send(req, job.services.proxies, job.requestID)
	if err != nil {
		result.err, result.again = err, true
		return result
	}
	if resp.StatusCode != http.StatusOK {
		result.err, result.again = refusal(resp), mayPass(resp.StatusCode)
		return result
	}
	defer resp.Body.Close()
	dog.moved()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		result.err, result.again = plainError(ctx, err), true
		return result
	}
	result.locator = strings.TrimSpace(string(text))
	if loc, err := MakeLocator(result.locator); err != nil || loc.Hash != block.hash {
		result.err = fmt.Errorf("stored as %q", result.locator)
		return result
	}
	result.replicas = 1
	if n, err := strconv.Atoi(resp.Header.Get(XKeepReplicasStored)); err == nil && n >= 0 {
		result.replicas = n
	}
	result.classes = confirmedClasses(resp.Header.Get(XKeepStorageClassesConfirmed))
	return result
}

// confirmedClasses reads "a=1, b=2". What is not of that form confirms
// nothing, as if there were no header.
func confirmedClasses(header string) map[string]int {
	confirmed := map[string]int{}
	for _, item := range strings.Split(header, ",") {
		name, count, _ := strings.Cut(strings.TrimSpace(item), "=")
		n, err := strconv.Atoi(count)
		if name == "" || err != nil || n < 1 {
			return nil
		}
		confirmed[name] = n
	}
	return confirmed
}
