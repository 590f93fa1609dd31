// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

const (
	// A list of services holds for this long.
	servicesValid = 5 * time.Minute
	// How long to wait for a list, retries included.
	servicesTimeout = time.Minute
)

// services are the base URLs of Keep services by UUID. The maps are never
// changed.
type services struct {
	local    map[string]string // to read from
	writable map[string]string // to write to
	gateway  map[string]string // to read from if a locator says so
	// proxies: some are not plain disks, so the network may be slow.
	proxies bool
	// single: each writable service stores one replica of what it is sent;
	// else each is expected to see to all replicas.
	single bool
}

// services are those given, or else those that the API server lists.
func (kc *KeepClient) services(ctx context.Context) (services, error) {
	kc.mutex.Lock()
	if !kc.given && kc.Arvados.KeepServiceURIs != nil {
		kc.known, kc.given = proxiesAt(kc.Arvados.KeepServiceURIs), true
	}
	known, since, given := kc.known, kc.knownSince, kc.given
	kc.mutex.Unlock()
	if given || (!since.IsZero() && time.Since(since) < servicesValid) {
		return known, nil
	}

	fresh, err := kc.discover(ctx)
	if err != nil && !since.IsZero() && ctx.Err() == nil {
		kc.debug("keeping the old list of Keep services", err)
		return known, nil
	}
	if err != nil {
		return services{}, err
	}
	kc.mutex.Lock()
	defer kc.mutex.Unlock()
	if !kc.given {
		kc.known, kc.knownSince = fresh, time.Now()
	}
	return kc.known, nil
}

func (kc *KeepClient) discover(ctx context.Context) (services, error) {
	arv := kc.Arvados
	if arv.ApiServer == "" {
		return services{}, errors.New("cannot list Keep services: ARVADOS_API_HOST is not set")
	}
	client := &arvados.Client{
		Client:    arv.Client,
		Scheme:    arv.Scheme,
		APIHost:   arv.ApiServer,
		AuthToken: arv.ApiToken,
		Insecure:  arv.ApiInsecure,
		Timeout:   servicesTimeout,
	}
	var list arvados.KeepServiceList
	err := client.RequestAndDecodeContext(ctx, &list, "GET", "arvados/v1/keep_services/accessible", nil, nil)
	if err != nil {
		return services{}, fmt.Errorf("cannot list Keep services: %w", err)
	}
	return listed(list.Items), nil
}

// proxiesAt are services whose kind is not known, in the order of uris.
func proxiesAt(uris []string) services {
	roots := map[string]string{}
	for i, uri := range uris {
		roots[fmt.Sprintf("00000-bi6l4-%015d", i)] = strings.TrimSuffix(uri, "/")
	}
	return services{local: roots, writable: roots, gateway: roots, proxies: true}
}

func listed(items []arvados.KeepService) services {
	found := services{
		local:    map[string]string{},
		writable: map[string]string{},
		gateway:  map[string]string{},
		single:   true,
	}
	seen := map[string]bool{}
	for _, item := range items {
		root := baseURL(item)
		if seen[root] {
			continue
		}
		seen[root] = true
		disk := item.ServiceType == "disk"
		found.local[item.UUID] = root
		found.gateway[item.UUID] = root
		if !item.ReadOnly {
			found.writable[item.UUID] = root
			found.single = found.single && disk
		}
		found.proxies = found.proxies || !disk
	}
	return found
}

func baseURL(item arvados.KeepService) string {
	scheme, host := "http", item.ServiceHost
	if item.ServiceSSLFlag {
		scheme = "https"
	}
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s://%s:%d", scheme, host, item.ServicePort)
}

// LoadKeepServicesFromJSON takes the services from a list as the API server
// would give it, and never asks the server.
func (kc *KeepClient) LoadKeepServicesFromJSON(services string) error {
	var list arvados.KeepServiceList
	if err := json.Unmarshal([]byte(services), &list); err != nil {
		return err
	}
	kc.mutex.Lock()
	defer kc.mutex.Unlock()
	kc.known, kc.given = listed(list.Items), true
	return nil
}

// SetServiceRoots takes the services as base URLs by UUID: to read from, to
// write to, and those that locators may name. The server is not asked any
// more. The caller must not change the maps afterwards.
func (kc *KeepClient) SetServiceRoots(locals, writables, gateways map[string]string) {
	kc.mutex.Lock()
	defer kc.mutex.Unlock()
	kc.known.local, kc.known.writable, kc.known.gateway = locals, writables, gateways
	kc.given = true
}

// LocalRoots are the base URLs of services to read from, by UUID; nil if they
// cannot be had. The caller must not change the map.
func (kc *KeepClient) LocalRoots() map[string]string {
	return kc.servicesOrNone().local
}

// WritableLocalRoots are the base URLs of services to write to, by UUID; nil
// if they cannot be had. The caller must not change the map.
func (kc *KeepClient) WritableLocalRoots() map[string]string {
	return kc.servicesOrNone().writable
}

func (kc *KeepClient) servicesOrNone() services {
	found, err := kc.services(context.Background())
	if err != nil {
		kc.debug("no Keep services", err)
	}
	return found
}
