// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"context"
	"os"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// logLifetime is how long the container's own log collection lives: the API
// server copies it for the container request.
const logLifetime = 14 * 24 * time.Hour

// logCollection is the saved form of a session's logs. It belongs to the
// dispatcher's user, as with crunch-run.
type logCollection struct {
	s    *Session
	uuid string
	pdh  string // as last saved
}

func (s *Session) createLogCollection(ctx context.Context) (*logCollection, error) {
	manifest, err := s.Logs.Save(ctx, s.dispatcherKeep, false)
	if err != nil {
		return nil, err
	}
	end := time.Now().Add(logLifetime).UTC()
	var made arvados.Collection
	err = s.dispatch(ctx, &made, "POST", "collections", map[string]interface{}{
		"collection": map[string]interface{}{
			"name":          "logs for " + s.Container.UUID,
			"manifest_text": manifest,
			"trash_at":      end,
			"delete_at":     end,
		},
		"ensure_unique_name": true,
		"select":             []string{"uuid", "portable_data_hash"},
	})
	return &logCollection{s: s, uuid: made.UUID, pdh: made.PortableDataHash}, err
}

// save brings the collection up to date; final puts it into the trash, once
// the container record is about to refer to it for the last time.
func (l *logCollection) save(ctx context.Context, final bool) error {
	manifest, err := l.s.Logs.Save(ctx, l.s.dispatcherKeep, final)
	if err != nil {
		return err
	}
	attrs := map[string]interface{}{"manifest_text": manifest}
	if final {
		attrs["is_trashed"] = true
	}
	var saved arvados.Collection
	err = l.s.dispatch(ctx, &saved, "PUT", "collections/"+l.uuid, map[string]interface{}{
		"collection": attrs,
		"select":     []string{"uuid", "portable_data_hash"},
	})
	if err == nil {
		l.pdh = saved.PortableDataHash
	}
	return err
}

// follow saves the logs every interval while they grow, and when somebody asks,
// and tells the container record, until ctx ends. Trouble is left to the next
// time.
func (l *logCollection) follow(ctx context.Context, interval time.Duration, ask <-chan os.Signal) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-ask:
		}
		if !l.s.Logs.Grown() {
			continue
		}
		err := l.save(ctx, false)
		if err == nil {
			err = l.s.update(ctx, map[string]interface{}{"log": l.pdh})
		}
		if err != nil && ctx.Err() == nil {
			l.s.Log.Warnf("logs not saved, will try again: %v", err)
		}
	}
}
