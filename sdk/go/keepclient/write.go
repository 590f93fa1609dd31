// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// writeJob is what one BlockWrite asks for, defaults filled in.
type writeJob struct {
	services  services
	replicas  int
	requestID string
}

// BlockWrite stores a block in as many services as it takes for each storage
// class to have its replicas: in the order of the RootSorter, then again those
// that failed in a way that may pass. It reads req.Data in place and does not
// touch it any more once it has returned.
//
// The error is InsufficientReplicasError when some replicas are missing; the
// response then tells what there is. It is the context's when that is done.
func (kc *KeepClient) BlockWrite(ctx context.Context, req arvados.BlockWriteOptions) (arvados.BlockWriteResponse, error) {
	block, err := newPayload(req)
	if err != nil {
		return arvados.BlockWriteResponse{}, err
	}
	defer block.takeAway()
	job := writeJob{replicas: req.Replicas, requestID: req.RequestID}
	if job.replicas == 0 {
		job.replicas = kc.Want_replicas
	}
	if job.requestID == "" {
		job.requestID = kc.requestID()
	}
	if block.size == 0 {
		return arvados.BlockWriteResponse{Locator: emptyHash + "+0", Replicas: job.replicas}, nil
	}
	classes := req.StorageClasses
	if classes == nil {
		classes = kc.StorageClasses
		if len(classes) == 0 {
			classes = kc.DefaultStorageClasses
		}
	}
	attempts := req.Attempts
	if attempts == 0 {
		attempts = 1 + kc.Retries
	}
	if job.services, err = kc.services(ctx); err != nil {
		return arvados.BlockWriteResponse{}, err
	}

	// Uploads that are still under way when the block has its replicas are
	// not needed.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	servers := NewRootSorter(job.services.writable, block.hash).GetSortedRoots()
	todo := newQuota(job.replicas, classes)
	failures := map[string]error{}
	for round := 0; ; round++ {
		servers = kc.writeRound(ctx, servers, block, job, todo, failures)
		switch {
		case todo.open() < 1:
			return todo.stored, nil
		case ctx.Err() != nil:
			return todo.stored, ctx.Err()
		case len(servers) == 0 || round+1 >= attempts:
			return todo.stored, insufficient(job.replicas, todo.stored.Replicas, failures)
		}
		if err := kc.pauseAfter(ctx, round); err != nil {
			return todo.stored, err
		}
	}
}

// writeRound offers the block to each server at most once, and stops as soon
// as nothing is left to do. It returns the servers that may be tried again.
func (kc *KeepClient) writeRound(ctx context.Context, servers []string, block *payload, job writeJob, todo *quota, failures map[string]error) []string {
	each := job.replicas // how many replicas one upload may make
	if job.services.single {
		each = 1
	}
	results := make(chan uploaded, len(servers))
	var again []string
	for next, active := 0, 0; todo.open() > 0; {
		// No more uploads than could be needed if all succeed.
		for ; next < len(servers) && active*each < todo.open(); next++ {
			active++
			go func(server string, classes []string) {
				results <- kc.upload(ctx, server, block, job, classes)
			}(servers[next], todo.missing())
		}
		if active == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case result := <-results:
			active--
			if result.err == nil {
				todo.add(result)
				delete(failures, result.server)
				continue
			}
			failures[result.server] = result.err
			if result.again {
				again = append(again, result.server)
			}
		}
	}
	// In the block's own order, not in that of the failures.
	return slices.DeleteFunc(slices.Clone(servers), func(server string) bool {
		return !slices.Contains(again, server)
	})
}

// insufficient names each service that failed and why.
func insufficient(wanted, stored int, failures map[string]error) error {
	reasons := []string{}
	for server, err := range failures {
		reasons = append(reasons, fmt.Sprintf("%s: %v", server, err))
	}
	sort.Strings(reasons)
	if len(reasons) == 0 {
		reasons = []string{"not enough writable Keep services"}
	}
	return InsufficientReplicasError{fmt.Errorf("could not write %d replicas, only %d: %s",
		wanted, stored, strings.Join(reasons, "; "))}
}
