// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import "time"

// KeepService is a server of blocks. ServiceType is "disk" for a keepstore,
// which stores one replica of what it is sent, or "proxy" and others for
// servers that see to all replicas.
type KeepService struct {
	UUID           string    `json:"uuid"`
	ServiceHost    string    `json:"service_host"`
	ServicePort    int       `json:"service_port"`
	ServiceSSLFlag bool      `json:"service_ssl_flag"`
	ServiceType    string    `json:"service_type"`
	ReadOnly       bool      `json:"read_only"`
	CreatedAt      time.Time `json:"created_at"`
	ModifiedAt     time.Time `json:"modified_at"`
}

// KeepServiceList is one page of Keep services.
type KeepServiceList struct {
	Items          []KeepService `json:"items"`
	ItemsAvailable int           `json:"items_available"`
	Offset         int           `json:"offset"`
	Limit          int           `json:"limit"`
}

// EachKeepService calls f with every Keep service, and stops at the first
// error, f's or its own.
func (c *Client) EachKeepService(f func(KeepService) error) error {
	for seen := 0; ; {
		var page KeepServiceList
		err := c.RequestAndDecode(&page, "GET", "arvados/v1/keep_services", nil, ResourceListParams{Offset: seen})
		if err != nil {
			return err
		}
		for _, service := range page.Items {
			if err := f(service); err != nil {
				return err
			}
		}
		seen += len(page.Items)
		// An empty page ends it whatever items_available says: the
		// list may have become shorter meanwhile.
		if len(page.Items) == 0 || seen >= page.ItemsAvailable {
			return nil
		}
	}
}
