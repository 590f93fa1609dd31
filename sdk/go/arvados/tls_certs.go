// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import "os"

// Arvados nodes and containers have the site's certificates here, and TLS in
// this process and its children has to accept them.
const siteCertificates = "/etc/arvados/ca-certificates.crt"

// Go reads SSL_CERT_FILE once, at the first TLS connection, so the variable
// is set before main starts.
func init() { trustFile(siteCertificates) }

// trustFile makes path the certificates to trust, unless the user has chosen
// others or it cannot be read.
func trustFile(path string) {
	if os.Getenv("SSL_CERT_FILE") != "" {
		return
	}
	if f, err := os.Open(path); err == nil {
		f.Close()
		os.Setenv("SSL_CERT_FILE", path)
	}
}
