// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import "context"

type (
	requestIDKey     struct{}
	authorizationKey struct{}
)

// ContextWithRequestID makes requests under the new context carry reqid as
// their X-Request-Id, which servers write to their logs.
func ContextWithRequestID(ctx context.Context, reqid string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, reqid)
}

// ContextWithAuthorization makes requests under the new context carry value,
// "Bearer TOKEN", as their Authorization in place of the client's token.
func ContextWithAuthorization(ctx context.Context, value string) context.Context {
	return context.WithValue(ctx, authorizationKey{}, value)
}
