// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// failure is why one service has not given a block; without err it has.
type failure struct {
	err     error
	again   bool // it may, when asked once more
	missing bool // it says it has no such block
	final   bool // no service can mend it
}

// refused is the failure of an answer other than 200, which it closes.
func refused(resp *http.Response) failure {
	return failure{
		err:     refusal(resp),
		again:   mayPass(resp.StatusCode) || resp.StatusCode == http.StatusInsufficientStorage,
		missing: resp.StatusCode == http.StatusNotFound,
	}
}

// eachServer has services tried until one succeeds.
func (kc *KeepClient) eachServer(ctx context.Context, loc *Locator, try func(server string, proxies bool) failure) error {
	known, err := kc.services(ctx)
	if err != nil {
		return err
	}
	servers := readOrder(known, loc)
	if len(servers) == 0 {
		return &ErrNotFound{reason: fmt.Errorf("block %s: no Keep services", loc.bare())}
	}
	missing, all := 0, len(servers)
	var failures []error
	for round := 0; ; round++ {
		var again []string
		for _, server := range servers {
			result := try(server, known.proxies)
			switch {
			case result.err == nil:
				return nil
			case result.final:
				return result.err
			case ctx.Err() != nil:
				return ctx.Err()
			case result.missing:
				missing++
			case result.again:
				again = append(again, server)
			}
			failures = append(failures, fmt.Errorf("%s: %w", server, result.err))
		}
		if missing == all {
			return BlockNotFound
		}
		if len(again) == 0 || round >= kc.Retries {
			return &ErrNotFound{
				reason:    fmt.Errorf("block %s cannot be read: %w", loc.bare(), oneLine{failures}),
				temporary: len(again) > 0,
			}
		}
		servers = again
		if err := kc.pauseAfter(ctx, round); err != nil {
			return err
		}
	}
}

// readOrder is the services that the locator names, then all others.
func readOrder(known services, loc *Locator) []string {
	var servers []string
	for _, hint := range loc.Hints {
		name, ok := strings.CutPrefix(hint, "K@")
		switch {
		case !ok:
		case len(name) == 5: // a cluster with the usual host name
			servers = append(servers, "https://keep."+name+".arvadosapi.com")
		case known.gateway[name] != "":
			servers = append(servers, known.gateway[name])
		}
	}
	return append(servers, NewRootSorter(known.local, loc.Hash).GetSortedRoots()...)
}

// oneLine is several errors, joined by semicolons.
type oneLine struct{ errs []error }

func (e oneLine) Error() string {
	texts := make([]string, len(e.errs))
	for i, err := range e.errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e oneLine) Is(target error) bool {
	return errors.Is(errors.Join(e.errs...), target)
}
