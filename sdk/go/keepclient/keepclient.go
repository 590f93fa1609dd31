// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

// Package keepclient stores blocks of up to 64 MiB in Keep and reads them
// back, over HTTP, from the services that the API server lists.
//
// It is for whatever writes or reads files in Keep. It holds the part of the
// Arvados Go SDK that this takes, with the SDK's own names and signatures. It
// never caches blocks, on disk or in memory; it never keeps a caller's buffer
// after a call; and it never reports success for data whose MD5 is not that of
// the locator.
package keepclient

import (
	"context"
	"crypto/rand"
	"net/http"
	"sort"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
)

// BLOCKSIZE is the most bytes that a block can have.
const BLOCKSIZE = 64 * 1024 * 1024

// DiskCacheDisabled is the value of KeepClient.DiskCacheSize for reading and
// writing without a copy on disk. This implementation has no disk cache; the
// genuine one uses up to a tenth of the disk unless told so.
const DiskCacheDisabled = arvados.ByteSizeOrPercent(1)

// Headers of the protocol between clients and Keep services.
const (
	XKeepDesiredReplicas         = "X-Keep-Desired-Replicas"
	XKeepReplicasStored          = "X-Keep-Replicas-Stored"
	XKeepStorageClasses          = "X-Keep-Storage-Classes"           // "a, b"
	XKeepStorageClassesConfirmed = "X-Keep-Storage-Classes-Confirmed" // "a=1, b=2"
	XKeepSignature               = "X-Keep-Signature"                 // "local, time=RFC3339"
	XKeepLocator                 = "X-Keep-Locator"
)

// What a cluster has that does not say how many replicas it wants.
const defaultReplicas = 2

// HTTPClient is the part of http.Client that a KeepClient needs.
type HTTPClient interface {
	Do(*http.Request) (*http.Response, error)
}

// KeepClient reads and writes blocks with one token. It is safe for concurrent
// use as long as nobody changes its fields.
type KeepClient struct {
	// Arvados is the API server, which lists the services, and the token.
	Arvados *arvadosclient.ArvadosClient
	// Want_replicas is how many replicas a block gets in each storage
	// class if the call does not say.
	Want_replicas int
	// HTTPClient makes the requests. If nil, connections suit the listed
	// services: short timeouts for disks, long ones for proxies.
	HTTPClient HTTPClient
	// Retries is how many more rounds are made over the services that
	// failed in a way that may pass.
	Retries int
	// RetryDelay is the longest pause before the second round, 2 s if 0.
	// It doubles with each round, up to ten times.
	RetryDelay time.Duration
	// RequestID is sent as X-Request-Id. "" for a new one each time.
	RequestID string
	// StorageClasses of blocks for which the call does not say; if empty,
	// DefaultStorageClasses.
	StorageClasses []string
	// DefaultStorageClasses are those of the cluster's configuration.
	DefaultStorageClasses []string
	// DiskCacheSize is DiskCacheDisabled for programs that must not cache.
	DiskCacheSize arvados.ByteSizeOrPercent

	// Guards the rest.
	mutex sync.Mutex
	// The services known, when they were asked for, and whether they are
	// given, so that nobody need ask again.
	known      services
	knownSince time.Time
	given      bool
	// The connections, and whether they were made for proxies.
	pool        *http.Client
	poolProxies bool

	// Timeouts other than the defaults, for tests.
	patience time.Duration
	buffers  sync.Pool
}

var _ arvados.KeepGateway = (*KeepClient)(nil)

// New makes a client that asks for the services when it first needs them. The
// number of replicas and the default storage classes are asked for now; where
// the server does not tell, they are 2 and none.
func New(arv *arvadosclient.ArvadosClient) *KeepClient {
	kc := &KeepClient{
		Arvados:       arv,
		Want_replicas: defaultReplicas,
		Retries:       2,
		DiskCacheSize: arv.DiskCacheSize,
	}
	if value, err := arv.Discovery("defaultCollectionReplication"); err == nil {
		if n, ok := value.(float64); ok && n >= 1 {
			kc.Want_replicas = int(n)
		}
	}
	value, err := arv.ClusterConfig("StorageClasses")
	if err != nil {
		kc.debug("cluster configuration names no storage classes", err)
		return kc
	}
	classes, _ := value.(map[string]interface{})
	for name, class := range classes {
		settings, _ := class.(map[string]interface{})
		if isDefault, _ := settings["Default"].(bool); isDefault {
			kc.DefaultStorageClasses = append(kc.DefaultStorageClasses, name)
		}
	}
	sort.Strings(kc.DefaultStorageClasses)
	return kc
}

// MakeKeepClient makes a client and asks for the services at once.
func MakeKeepClient(arv *arvadosclient.ArvadosClient) (*KeepClient, error) {
	kc := New(arv)
	_, err := kc.services(context.Background())
	return kc, err
}

func (kc *KeepClient) debug(message string, err error) {
	if kc.Arvados.Logger != nil {
		kc.Arvados.Logger.WithError(err).Debug(message)
	}
}

func (kc *KeepClient) requestID() string {
	if kc.RequestID != "" {
		return kc.RequestID
	}
	return "req-" + strings.ToLower(rand.Text()[:20])
}
