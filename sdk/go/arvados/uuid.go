// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"crypto/rand"
	"math/big"
	"strings"
)

// RandomUUID is a new UUID: "CLUSTER-INFIX-" and 15 random characters. The
// infix is the type of the record, "4zz18" for collections.
func RandomUUID(clusterID, infix string) string {
	return clusterID + "-" + infix + "-" + randomBase36(15)
}

func randomBase36(digits int) string {
	limit := new(big.Int).Exp(big.NewInt(36), big.NewInt(int64(digits)), nil)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		// Not known to happen on any supported platform, and no
		// identifier may be guessable.
		panic(err)
	}
	text := n.Text(36)
	return strings.Repeat("0", digits-len(text)) + text
}
