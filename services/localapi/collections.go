// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

func init() { resourceMakers = append(resourceMakers, collectionResource) }

// emptyHash names the collection without files, which always exists.
const emptyHash = "d41d8cd98f00b204e9800998ecf8427e+0"

func collectionResource(s *Server) *resource {
	k := kinds[collections]
	r := rules{before: s.beforeCollection, check: s.checkCollection}
	actions := s.crud(k, r)
	maps.Copy(actions, s.trashActions(k, r))
	actions["GET /{uuid}"] = action{run: s.getCollection, doc: "Read a collection by UUID or portable data hash."}
	for _, pattern := range []string{"POST", "PATCH /{uuid}"} {
		act := actions[pattern]
		act.params = []string{"replace_files"}
		actions[pattern] = act
	}
	return &resource{name: k.plural, kind: k, actions: actions, prepare: s.prepareCollection}
}

var hashPattern = regexp.MustCompile(`^([0-9a-f]{32}\+[0-9]+)(\+.*)?$`)

// getCollection takes a UUID, or a portable data hash, of which any readable
// collection will do.
func (s *Server) getCollection(tx *Tx, c *Call) (any, error) {
	k := kinds[collections]
	parts := hashPattern.FindStringSubmatch(c.UUID)
	if parts == nil {
		return get(tx, c, k)
	}
	found, err := tx.List(collections, Query{
		Filters: []Filter{Where("portable_data_hash", "=", parts[1])}, Reader: c.Caller, Limit: 1, Whole: true,
	})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && parts[1] != emptyHash {
		return nil, refuseAsController(http.StatusNotFound, "not found")
	}
	if len(found) == 0 {
		found = []Record{{"manifest_text": ""}}
	}
	// The rest says nothing about the content, and is left empty.
	rec, err := c.showRecord(tx, Record{
		"uuid": parts[1], "portable_data_hash": parts[1], "manifest_text": found[0]["manifest_text"], "version": int64(0),
	}, false)
	if err != nil {
		return nil, err
	}
	rec["etag"] = ""
	for name := range rec {
		if a := k.attr(name); a != nil && (a.typ == hash || a.typ == array) {
			rec[name] = nil
		}
	}
	return verbatim(rec), nil
}

// prepareCollection signs the manifest for the reader.
func (s *Server) prepareCollection(_ *Tx, c *Call, rec Record) error {
	manifest, _ := rec["manifest_text"].(string)
	rec["unsigned_manifest_text"] = ""
	if len(c.Params.Strings("select")) > 0 {
		rec["unsigned_manifest_text"] = manifest
	}
	if rec["is_trashed"] == true {
		return nil
	}
	expiry := time.Now().Add(s.cfg.BlobSigningTTL)
	if trashAt, _ := rec["trash_at"].(string); trashAt != "" {
		if t, err := time.Parse(timeFormat, trashAt); err == nil && t.Before(expiry) {
			expiry = t
		}
	}
	rec["manifest_text"] = arvados.SignManifest(manifest, c.Caller.Token, expiry, s.cfg.BlobSigningTTL, []byte(s.cfg.BlobSigningKey))
	return nil
}

// beforeCollection is what controller does before it asks RailsAPI.
func (s *Server) beforeCollection(tx *Tx, c *Call) error {
	if err := checkProperties(c.Attrs); err != nil {
		return err
	}
	delete(c.Attrs, "current_version_uuid")
	delete(c.Attrs, "version")
	if len(c.Params["replace_segments"]) > 0 {
		return refuseAsController(http.StatusNotImplemented, "this server does not offer replace_segments")
	}
	return s.replaceFiles(tx, c)
}

// checkCollection completes and validates a collection.
func (s *Server) checkCollection(_ *Tx, c *Call, ch change) error {
	rec := ch.rec
	manifest, _ := rec["manifest_text"].(string)
	if was, ok := ch.old["manifest_text"]; !ok || was != manifest {
		facts, err := readManifest(manifest, func(locator string) error { return s.checkSignature(c.Caller, locator) })
		if err == errBadSignature {
			return denied("")
		}
		if err != nil {
			return refuse(422, "Manifest text "+err.Error())
		}
		rec["manifest_text"] = withoutSignatures(manifest)
		rec["file_count"], rec["file_size_total"], rec["file_names"] = int64(facts.files), facts.size, facts.names
	}
	computed := arvados.PortableDataHash(rec["manifest_text"].(string))
	if given, _ := rec["portable_data_hash"].(string); given != "" && ch.changed("portable_data_hash") {
		if !locatorToken.MatchString(given) {
			return refuse(422, "Portable data hash is not a valid locator")
		}
		if given[:32] != computed[:32] {
			return refuse(422, fmt.Sprintf("Portable data hash '%s' does not match computed hash '%s'", given, computed))
		}
	}
	rec["portable_data_hash"] = computed
	if rec["name"] == "" {
		rec["name"] = nil
	}
	if err := checkName(rec); err != nil {
		return err
	}
	if classes, _ := rec["storage_classes_desired"].([]any); len(classes) == 0 {
		rec["storage_classes_desired"] = []any{"default"}
	}
	for _, name := range []string{"storage_classes_desired", "storage_classes_confirmed"} {
		classes, _ := rec[name].([]any)
		for _, class := range classes {
			if _, ok := class.(string); !ok {
				return refuse(422, human(name)+" must be an array of strings")
			}
		}
	}
	rec["current_version_uuid"], rec["version"] = rec["uuid"], int64(1)
	return nil
}

var errBadSignature = denied("")

// checkSignature refuses blocks that the caller has not been given. Admins may
// name any block.
func (s *Server) checkSignature(c *Caller, locator string) error {
	if c.IsAdmin || locator[:32] == emptyHash[:32] {
		return nil
	}
	if arvados.VerifySignature(locator, c.Token, s.cfg.BlobSigningTTL, []byte(s.cfg.BlobSigningKey)) != nil {
		return errBadSignature
	}
	return nil
}

// checkName refuses names that cannot be names of files.
func checkName(rec Record) error {
	switch name, _ := rec["name"].(string); {
	case name == ".", name == "..":
		return refuse(422, "Name cannot be '.' or '..'")
	case strings.Contains(name, "/"):
		return refuse(422, "Name cannot contain a '/' character")
	}
	return nil
}
