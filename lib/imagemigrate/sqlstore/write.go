// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package sqlstore

import (
	"context"
	"slices"
	"time"

	"git.arvados.org/arvados.git/lib/imagemigrate"
	"github.com/jackc/pgx/v5"
)

// fits is where a collection is as it was read, and may be written to.
const fits = `c.properties IS NOT DISTINCT FROM planned.before::jsonb AND c.owner_uuid = planned.owner AND c.portable_data_hash = planned.pdh
		AND c.current_version_uuid = c.uuid AND (c.trash_at <= statement_timestamp()) IS NOT TRUE
		AND NOT c.owner_uuid IN (SELECT uuid FROM frozen_groups) AND c.preserve_version IS NOT TRUE`

// update changes collections that are as they were read and that nobody has locked at
// this moment, and tells of all that are as they were read which those are. It sets
// what the API server sets with a change of properties: whoever looks at modified_at
// sees it. No properties at all are NULL.
const update = `WITH planned AS MATERIALIZED (
	SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS planned (uuid, owner, pdh, before, after)
), fit AS MATERIALIZED (
	SELECT c.uuid FROM planned JOIN collections c ON c.uuid = planned.uuid
	WHERE ` + fits + `
), free AS MATERIALIZED (
	SELECT c.uuid, planned.after FROM planned JOIN collections c ON c.uuid = planned.uuid
	WHERE ` + fits + `
	FOR UPDATE OF c SKIP LOCKED
), changed AS (
	UPDATE collections c
	SET properties = nullif(free.after::jsonb, 'null'), modified_at = statement_timestamp(), updated_at = statement_timestamp(), modified_by_user_uuid = $6
	FROM free WHERE c.uuid = free.uuid
	RETURNING c.uuid
)
SELECT uuid, uuid IN (SELECT uuid FROM changed) FROM fit`

// atOnce is how many changes are made in one transaction: others wait for a short
// one at most where they need the disk.
const atOnce = 10

// rest is the time without writes after each transaction, as a part of the time that
// it took: the slower the database is, the more of it is left to others.
const rest = 0.25

// Write makes changes in short transactions. Collections that somebody else has
// locked, or has changed since they were read, are left to another attempt.
func (s *Store) Write(ctx context.Context, changes []imagemigrate.Planned, wait func(context.Context) error, done func(i int, err error) error) error {
	first := 0
	for some := range slices.Chunk(changes, atOnce) {
		for range some {
			if err := wait(ctx); err != nil {
				return err
			}
		}
		began := time.Now()
		outcomes, err := s.write(ctx, some)
		if err != nil {
			return err
		}
		took := time.Since(began)
		for i, outcome := range outcomes {
			if err := done(first+i, outcome); err != nil {
				return err
			}
		}
		first += len(some)
		select {
		case <-time.After(time.Duration(rest * float64(took))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// patience is how often changes are tried while the whole table is locked, by an
// index that is made or the like, and pause is the time between.
const (
	patience = 5
	pause    = time.Second
)

// write makes changes in one transaction, as soon as the table can be written to.
func (s *Store) write(ctx context.Context, changes []imagemigrate.Planned) ([]error, error) {
	for attempt := 1; ; attempt++ {
		outcomes, err := s.try(ctx, changes)
		if err == nil || ctx.Err() != nil || !isBusy(err) || attempt == patience {
			return outcomes, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s *Store) try(ctx context.Context, changes []imagemigrate.Planned) ([]error, error) {
	var uuids, owners, pdhs, afters []string
	var befores []*string // nil is NULL
	for _, change := range changes {
		uuids, owners = append(uuids, change.Collection), append(owners, change.Read.OwnerUUID)
		pdhs, afters = append(pdhs, change.Read.PortableDataHash), append(afters, string(change.After))
		var before *string
		if change.Before != nil {
			raw := string(change.Before)
			before = &raw
		}
		befores = append(befores, before)
	}
	written := map[string]bool{} // of those that are as they were read
	rows, err := s.conn.Query(ctx, update, uuids, owners, pdhs, befores, afters, s.user)
	if err == nil {
		var uuid string
		var changed bool
		_, err = pgx.ForEachRow(rows, []interface{}{&uuid, &changed}, func() error {
			written[uuid] = changed
			return nil
		})
	}
	if err != nil {
		return nil, dbFault("change", "collections", err)
	}
	outcomes := make([]error, len(changes))
	for i, change := range changes {
		switch changed, fit := written[change.Collection]; {
		case !fit:
			outcomes[i] = imagemigrate.ErrChanged
		case !changed:
			outcomes[i] = imagemigrate.ErrLocked
		}
	}
	return outcomes, nil
}
