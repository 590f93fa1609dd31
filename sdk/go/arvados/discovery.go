// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import "sync"

// DiscoveryDocument is what an API server says about itself.
type DiscoveryDocument struct {
	BasePath                     string `json:"basePath"`
	DefaultCollectionReplication int    `json:"defaultCollectionReplication"`
	BlobSignatureTTL             int64  `json:"blobSignatureTtl"` // seconds
	Revision                     string `json:"revision"`
}

type discoveryCache struct {
	mutex sync.Mutex
	doc   *DiscoveryDocument
}

// DiscoveryDocument asks the server once and remembers its answer. The caller
// must not change what it gets.
func (c *Client) DiscoveryDocument() (*DiscoveryDocument, error) {
	cache := c.discovery
	if cache == nil {
		cache = new(discoveryCache) // a literal Client; it asks each time
	}
	cache.mutex.Lock()
	defer cache.mutex.Unlock()
	if cache.doc == nil {
		doc := new(DiscoveryDocument)
		if err := c.RequestAndDecode(doc, "GET", "discovery/v1/apis/arvados/v1/rest", nil, nil); err != nil {
			return nil, err
		}
		cache.doc = doc
	}
	return cache.doc, nil
}
