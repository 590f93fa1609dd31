// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
)

// What hosts of commands have in common is in this file and in Status.

// CallAPI is one request to the API server; path is relative to arvados/v1. Errors
// are of side API, and transient unless the server has refused for good.
func CallAPI(ctx context.Context, api dockerimage.API, dst interface{}, method, path string, params map[string]interface{}) error {
	err := api.RequestAndDecodeContext(ctx, dst, method, "arvados/v1/"+path, nil, params)
	if err == nil {
		return nil
	}
	var refused *arvados.TransactionError
	final := errors.As(err, &refused) && refused.StatusCode >= 400 && refused.StatusCode < 500
	return &fault.Error{Op: method, Side: fault.API, Subject: path, Err: err, Transient: !final}
}

// CreateOutput makes the collection that the API server copies for the container
// request. It is in the trash from the start: what the request does not take over
// disappears by itself.
func CreateOutput(ctx context.Context, api dockerimage.API, container, manifest string) (pdh string, err error) {
	var made arvados.Collection
	err = CallAPI(ctx, api, &made, "POST", "collections", map[string]interface{}{
		"collection": map[string]interface{}{
			"name":          "output for " + container,
			"manifest_text": manifest,
			"is_trashed":    true,
		},
		"ensure_unique_name": true,
		"select":             []string{"portable_data_hash"},
	})
	if err != nil {
		return "", err
	}
	if want := arvados.PortableDataHash(manifest); made.PortableDataHash != want {
		return "", &fault.Error{Op: "create output collection", Side: fault.API, Subject: want,
			Err: fmt.Errorf("the API server says its portable data hash is %s", made.PortableDataHash)}
	}
	return made.PortableDataHash, nil
}

// maxMessage is the most bytes of a message about a failure: the last lines of a
// step may be long.
const maxMessage = 16 << 10

// Shorten is a message as a container record can have it.
func Shorten(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + "…"
}

// NewLogger writes lines as crunch-run.txt has them: the level only where it is a
// warning or worse.
func NewLogger(w io.Writer) *logrus.Logger {
	logger := logrus.New()
	logger.SetOutput(w)
	logger.SetFormatter(plainLines{})
	return logger
}

type plainLines struct{}

func (plainLines) Format(e *logrus.Entry) ([]byte, error) {
	line := e.Message
	if e.Level <= logrus.WarnLevel {
		line = e.Level.String() + ": " + line
	}
	for _, key := range slices.Sorted(maps.Keys(e.Data)) {
		line += fmt.Sprintf(" %s=%v", key, e.Data[key])
	}
	return append([]byte(line), '\n'), nil
}
