// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// refusal is a reply other than 200. Arvados has three forms of them, and
// programs compare them:
//
//   - what RailsAPI says, passed on by controller: one string that names the
//     path;
//   - what RailsAPI says about containers, which controller passes through:
//     one string for each message, and an error_token;
//   - what controller says itself: the message.
type refusal struct {
	status     int
	messages   []string
	controller bool
}

func (r *refusal) Error() string { return strings.Join(r.messages, "; ") }

// refuse is what RailsAPI says. The resource decides the form.
func refuse(status int, messages ...string) error {
	return &refusal{status: status, messages: messages}
}

// refuseException is what RailsAPI says when it raises an exception. Ruby
// shows its class for an empty message.
func refuseException(status int, class, message string) error {
	if message == "" {
		message = class
	}
	return refuse(status, fmt.Sprintf("#<%s: %s>", class, message))
}

// denied is the refusal of what the caller may read but not do.
func denied(message string) error {
	return refuseException(http.StatusForbidden, "ArvadosModel::PermissionDeniedError", message)
}

// argumentError is the refusal of a parameter that makes no sense.
func argumentError(format string, args ...any) error {
	return refuseException(http.StatusUnprocessableEntity, "ArgumentError", fmt.Sprintf(format, args...))
}

// refuseAsController is what controller says itself, without consulting
// RailsAPI.
func refuseAsController(status int, format string, args ...any) error {
	return &refusal{status: status, messages: []string{fmt.Sprintf(format, args...)}, controller: true}
}

// errorBody is the reply to a refused request. raw: the resource is one that
// controller passes through.
func errorBody(err error, requestID, path string, raw bool) (int, map[string]any) {
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{status: http.StatusInternalServerError, messages: []string{err.Error()}, controller: true}
	}
	if r.controller {
		return r.status, map[string]any{"errors": r.messages}
	}
	lines := make([]string, len(r.messages))
	for i, message := range r.messages {
		lines[i] = message + " (" + requestID + ")"
	}
	if raw {
		return r.status, map[string]any{
			"errors":      lines,
			"error_token": fmt.Sprintf("%d+%s", time.Now().Unix(), randomHex(8)),
		}
	}
	return r.status, map[string]any{"errors": []string{fmt.Sprintf("//railsapi.internal/arvados/v1/%s: %d %s: %s",
		path, r.status, http.StatusText(r.status), strings.Join(lines, "; "))}}
}
