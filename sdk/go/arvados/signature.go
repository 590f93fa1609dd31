// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Why a locator gives no access.
var (
	ErrSignatureExpired = errors.New("signature expired")
	ErrSignatureInvalid = errors.New("invalid signature")
	ErrSignatureMissing = errors.New("missing signature")
)

// SignedLocatorRe matches a locator with a signature of this cluster. The
// groups: 1 hash, 2 size with its "+", 3 and 4 hints, 5 signature hint with
// its "+", 6 signature, 7 time of expiry, 8 and 9 hints.
var SignedLocatorRe = regexp.MustCompile(`^([0-9A-Fa-f]{32})` +
	`(\+\d+)?` +
	`((\+[B-Z][-A-Za-z0-9@_]*)*)` +
	`(\+A([0-9A-Fa-f]{40})@([0-9A-Fa-f]{8}))` +
	`((\+[B-Z][-A-Za-z0-9@_]*)*)$`)

// SignLocator appends a signature: until expiry, apiToken may read the block.
// Without a token or a secret it returns blobLocator as it is. Only services
// know the secret.
func SignLocator(blobLocator, apiToken string, expiry time.Time, blobSignatureTTL time.Duration, permissionSecret []byte) string {
	if apiToken == "" || len(permissionSecret) == 0 {
		return blobLocator
	}
	hash, _, _ := strings.Cut(blobLocator, "+")
	until := fmt.Sprintf("%08x", expiry.Unix())
	return fmt.Sprintf("%s+A%x@%s", blobLocator, signature(hash, apiToken, until, blobSignatureTTL, permissionSecret), until)
}

func signature(hash, apiToken, until string, ttl time.Duration, secret []byte) []byte {
	mac := hmac.New(sha1.New, secret)
	io.WriteString(mac, strings.Join([]string{hash, apiToken, until, strconv.FormatInt(int64(ttl/time.Second), 16)}, "@"))
	return mac.Sum(nil)
}

// SignManifest signs every locator of a manifest anew.
func SignManifest(manifest string, apiToken string, expiry time.Time, ttl time.Duration, permissionSecret []byte) string {
	return string(mapLocators(manifest, func(locator string) string {
		parts := strings.Split(locator, "+")
		kept := parts[:0]
		for _, part := range parts {
			if !strings.HasPrefix(part, "A") {
				kept = append(kept, part)
			}
		}
		return SignLocator(strings.Join(kept, "+"), apiToken, expiry, ttl, permissionSecret)
	}))
}

// VerifySignature is nil if signedLocator lets apiToken read the block now;
// else ErrSignatureMissing, ErrSignatureExpired or ErrSignatureInvalid.
func VerifySignature(signedLocator, apiToken string, blobSignatureTTL time.Duration, permissionSecret []byte) error {
	parts := SignedLocatorRe.FindStringSubmatch(signedLocator)
	if parts == nil {
		return ErrSignatureMissing
	}
	until, err := strconv.ParseInt(parts[7], 16, 64)
	if err != nil {
		return ErrSignatureInvalid
	}
	if time.Unix(until, 0).Before(time.Now()) {
		return ErrSignatureExpired
	}
	given, err := hex.DecodeString(parts[6])
	if err != nil || !hmac.Equal(given, signature(parts[1], apiToken, parts[7], blobSignatureTTL, permissionSecret)) {
		return ErrSignatureInvalid
	}
	return nil
}
