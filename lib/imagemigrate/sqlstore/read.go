// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package sqlstore

import (
	"context"
	"encoding/json"
	"iter"

	"git.arvados.org/arvados.git/lib/imagemigrate"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/jackc/pgx/v5"
)

// page is how many links are read at a time, so that no statement takes long.
const page = 2000

// What administrators see where they do not ask for the trash. Rows without an owner
// are not seen by anybody.
const (
	seen     = ` owner_uuid IS NOT NULL AND NOT owner_uuid IN (SELECT group_uuid FROM trashed_groups WHERE trash_at <= statement_timestamp())`
	seenColl = seen + ` AND (trash_at <= statement_timestamp()) IS NOT TRUE AND uuid = current_version_uuid`
)

// linksOf begins statements that read links.
const linksOf = `SELECT uuid, link_class, coalesce(name, ''), owner_uuid, head_uuid, created_at,
		CASE WHEN jsonb_typeof(properties) = 'object' THEN properties::text ELSE '{}' END
	FROM links WHERE link_class IN ('docker_image_hash', 'docker_image_repo+tag') AND` + seen

func (s *Store) links(ctx context.Context, statement string, args ...interface{}) ([]arvados.Link, error) {
	rows, err := s.conn.Query(ctx, statement, args...)
	if err != nil {
		return nil, dbFault("read", "links", err)
	}
	links, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (link arvados.Link, err error) {
		var properties []byte
		if err := row.Scan(&link.UUID, &link.LinkClass, &link.Name, &link.OwnerUUID, &link.HeadUUID, &link.CreatedAt, &properties); err != nil {
			return link, err
		}
		return link, json.Unmarshal(properties, &link.Properties)
	})
	if err != nil {
		return nil, dbFault("read", "links", err)
	}
	return links, nil
}

// Heads reads links page by page, so that no more than a page of links is in
// memory, or those to one head if they are more.
func (s *Store) Heads(ctx context.Context, after string) iter.Seq2[[]arvados.Link, error] {
	return func(yield func([]arvados.Link, error) bool) {
		var last interface{} // the last link to that head; none is after NULL
		var open []arvados.Link
		for {
			links, err := s.links(ctx, linksOf+` AND (head_uuid, uuid) > ($1, $2) ORDER BY head_uuid, uuid LIMIT $3`, after, last, page)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, link := range links {
				if len(open) > 0 && open[0].HeadUUID != link.HeadUUID {
					if !yield(open, nil) {
						return
					}
					open = nil
				}
				open = append(open, link)
			}
			if len(links) < page {
				break
			}
			after, last = links[page-1].HeadUUID, links[page-1].UUID
		}
		if len(open) > 0 {
			yield(open, nil)
		}
	}
}

// LinksTo reads all links to one head.
func (s *Store) LinksTo(ctx context.Context, head string) ([]arvados.Link, error) {
	return s.links(ctx, linksOf+` AND head_uuid = $1 ORDER BY uuid`, head)
}

// manifestLimit is how much is read of the manifest of a collection that has several
// files, and so is no image: enough to tell that. That of an image of 1 TB takes
// less.
const manifestLimit = 1 << 20

// collectionsBy are statements that read collections by an attribute.
var collectionsBy = map[string]string{
	"uuid":               collectionsOf + ` AND uuid = ANY($2) ORDER BY uuid`,
	"portable_data_hash": collectionsOf + ` AND portable_data_hash = ANY($2) ORDER BY uuid`,
}

const collectionsOf = `SELECT uuid, owner_uuid, coalesce(portable_data_hash, ''), created_at,
		CASE WHEN $3 THEN '' WHEN file_count > 1 AND octet_length(manifest_text) > $1 THEN left(manifest_text, $1) ELSE coalesce(manifest_text, '') END,
		properties::text, coalesce(preserve_version, false)
	FROM collections WHERE` + seenColl

// Collections reads collections that are neither in the trash nor old versions.
func (s *Store) Collections(ctx context.Context, attr string, values []string) ([]imagemigrate.Collection, error) {
	return s.collections(ctx, attr, values, false)
}

// Properties reads such collections without their manifests.
func (s *Store) Properties(ctx context.Context, uuids []string) ([]imagemigrate.Collection, error) {
	return s.collections(ctx, "uuid", uuids, true)
}

func (s *Store) collections(ctx context.Context, attr string, values []string, bare bool) ([]imagemigrate.Collection, error) {
	rows, err := s.conn.Query(ctx, collectionsBy[attr], manifestLimit, values, bare)
	if err != nil {
		return nil, dbFault("read", "collections", err)
	}
	colls, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (coll imagemigrate.Collection, err error) {
		err = row.Scan(&coll.UUID, &coll.OwnerUUID, &coll.PortableDataHash, &coll.CreatedAt, &coll.ManifestText, (*[]byte)(&coll.Raw), &coll.PreserveVersion)
		if err != nil {
			return coll, err
		}
		coll.Decode()
		switch {
		case string(coll.Raw) == "null": // JSON's, which is not the database's
			coll.Obstacle = imagemigrate.NoObject
		case coll.PreserveVersion && coll.Obstacle == "":
			coll.Obstacle = imagemigrate.KeptVersion
		}
		return coll, nil
	})
	if err != nil {
		return nil, dbFault("read", "collections", err)
	}
	return colls, nil
}

// Gone reads collections in the trash and old versions as well.
func (s *Store) Gone(ctx context.Context, uuids []string) (map[string]imagemigrate.Kind, error) {
	gone := map[string]imagemigrate.Kind{}
	for _, uuid := range uuids {
		gone[uuid] = imagemigrate.GoneHead
	}
	rows, err := s.conn.Query(ctx, `SELECT uuid, coalesce(current_version_uuid, uuid) <> uuid FROM collections WHERE uuid = ANY($1)`, uuids)
	if err != nil {
		return nil, dbFault("read", "collections in the trash", err)
	}
	var uuid string
	var isOld bool
	_, err = pgx.ForEachRow(rows, []interface{}{&uuid, &isOld}, func() error {
		gone[uuid] = imagemigrate.TrashedHead
		if isOld {
			gone[uuid] = imagemigrate.OldHead
		}
		return nil
	})
	if err != nil {
		return nil, dbFault("read", "collections in the trash", err)
	}
	return gone, nil
}

// Replacements reads the newest docker_image_migration link of each image.
func (s *Store) Replacements(ctx context.Context, pdhs []string) (map[string]string, error) {
	rows, err := s.conn.Query(ctx, `SELECT DISTINCT ON (tail_uuid) tail_uuid, head_uuid FROM links
		WHERE link_class = 'docker_image_migration' AND tail_uuid = ANY($1) AND head_uuid IS NOT NULL AND owner_uuid LIKE '%-tpzed-000000000000000' AND`+seen+`
		ORDER BY tail_uuid, created_at DESC, uuid DESC`, pdhs)
	if err != nil {
		return nil, dbFault("read", "links of replaced images", err)
	}
	to := map[string]string{}
	var tail, head string
	_, err = pgx.ForEachRow(rows, []interface{}{&tail, &head}, func() error {
		to[tail] = head
		return nil
	})
	if err != nil {
		return nil, dbFault("read", "links of replaced images", err)
	}
	return to, nil
}

// Frozen reads which projects are frozen, or in one that is.
func (s *Store) Frozen(ctx context.Context, owners []string) (map[string]bool, error) {
	rows, err := s.conn.Query(ctx, `SELECT uuid FROM frozen_groups WHERE uuid = ANY($1)`, owners)
	if err != nil {
		return nil, dbFault("read", "frozen projects", err)
	}
	frozen := map[string]bool{}
	var uuid string
	_, err = pgx.ForEachRow(rows, []interface{}{&uuid}, func() error {
		frozen[uuid] = true
		return nil
	})
	if err != nil {
		return nil, dbFault("read", "frozen projects", err)
	}
	return frozen, nil
}
