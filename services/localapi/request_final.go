// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"encoding/json"
	"maps"
	"time"

	"git.arvados.org/arvados.git/services/localapi/containerrules"
)

// finishRequest makes a request final whose container has ended: it gets its
// output and log, and costs what the container has cost.
func (s *Server) finishRequest(tx *Tx, request, container Record) error {
	addCost(request, "cumulative_cost", container)
	parent, err := s.requestingContainer(tx, request)
	if err != nil {
		return err
	}
	if parent != nil && parent["state"] == containerrules.Running {
		parent["subrequests_cost"] = amount(parent["subrequests_cost"]) + amount(request["cumulative_cost"])
		if err := tx.Put(containers, parent); err != nil {
			return err
		}
	}
	if err := s.saveResults(tx, request, container); err != nil {
		return err
	}
	request["state"] = containerrules.Final
	request["modified_at"] = tx.now
	containerrules.Scrub(request)
	return tx.Put(containerRequests, request)
}

// saveResults makes the collections of a request whose container has ended,
// unless its project takes nothing.
func (s *Server) saveResults(tx *Tx, request, container Record) error {
	if nothing, err := tx.takesNothing(request["owner_uuid"]); err != nil || nothing {
		return err
	}
	if err := s.mergeLog(tx, request, container, true); err != nil {
		return err
	}
	if err := s.saveOutput(tx, request, container); err != nil {
		return err
	}
	if container["state"] != containerrules.Complete {
		return nil
	}
	// A container can be shared only while a collection has its log, as it
	// was.
	log, err := contentBy(tx, container["log"])
	if err != nil || log == nil {
		return err
	}
	uuid, _ := container["uuid"].(string)
	properties := containerrules.LogProperties(request)
	properties["container_uuid"] = uuid
	_, err = s.putCollection(tx, nil, Record{
		"owner_uuid": request["owner_uuid"], "name": containerrules.ContainerLogName(uuid), "properties": properties,
		"manifest_text": log["manifest_text"], "storage_classes_desired": request["output_storage_classes"],
	})
	return err
}

// saveLogs brings the log of a container that goes on to its requests.
func (s *Server) saveLogs(tx *Tx, container Record) error {
	requests, err := s.committedRequests(tx, "container_uuid", container)
	if err != nil {
		return err
	}
	for _, request := range requests {
		if err := s.mergeLog(tx, request, container, true); err != nil {
			return err
		}
		if err := tx.Put(containerRequests, request); err != nil {
			return err
		}
	}
	return nil
}

// mergeLog adds the log of a container, if it has any, to the log collection
// of a request, if its project takes anything; top: at the top level as well.
func (s *Server) mergeLog(tx *Tx, request, container Record, top bool) error {
	if nothing, err := tx.takesNothing(request["owner_uuid"]); err != nil || nothing {
		return err
	}
	log, err := contentBy(tx, container["log"])
	if err != nil || log == nil {
		return err
	}
	old, err := ownCollection(tx, request["log_uuid"])
	if err != nil {
		return err
	}
	soFar, _ := old["manifest_text"].(string)
	manifest, err := containerrules.MergeLog(soFar, log["manifest_text"].(string), container["uuid"].(string), top)
	if err != nil {
		return err
	}
	request["log_uuid"], err = s.putCollection(tx, old, Record{
		"owner_uuid": request["owner_uuid"], "name": containerrules.LogName(request), "manifest_text": manifest,
		"properties": containerrules.LogProperties(request), "storage_classes_desired": request["output_storage_classes"],
	})
	return err
}

// saveOutput makes the output collection of a request, if the container has an
// output, whatever has become of it.
func (s *Server) saveOutput(tx *Tx, request, container Record) error {
	output, err := contentBy(tx, container["output"])
	if err != nil || output == nil {
		return err
	}
	old, err := ownCollection(tx, request["output_uuid"])
	if err != nil {
		return err
	}
	attrs := Record{
		"owner_uuid": request["owner_uuid"], "name": containerrules.OutputName(request), "manifest_text": output["manifest_text"],
		"properties":              containerrules.OutputProperties(request, container),
		"storage_classes_desired": request["output_storage_classes"],
	}
	if ttl, _ := request["output_ttl"].(int64); ttl > 0 {
		end := later(tx.now, time.Duration(ttl)*time.Second)
		attrs["trash_at"], attrs["delete_at"] = end, end
	}
	request["output_uuid"], err = s.putCollection(tx, old, attrs)
	return err
}

// contentBy is any collection with a portable data hash, in the trash or not,
// nil if there is none.
func contentBy(tx *Tx, pdh any) (Record, error) {
	if pdh == nil {
		return nil, nil
	}
	found, err := tx.List(collections, Query{
		Filters: []Filter{Where("portable_data_hash", "=", pdh)}, IncludeTrash: true, Limit: 1, Whole: true,
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// ownCollection is the collection that a request has already, nil if there is
// none (any more).
func ownCollection(tx *Tx, uuid any) (Record, error) {
	if uuid == nil {
		return nil, nil
	}
	found, err := tx.List(collections, Query{
		Filters: []Filter{Where("uuid", "=", uuid)}, IncludeTrash: true, Limit: 1, Whole: true,
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// putCollection makes a collection in the name of the server, or gives old
// other content and properties, and returns its UUID.
func (s *Server) putCollection(tx *Tx, old, attrs Record) (any, error) {
	rec := Record{"uuid": kinds[collections].newUUID(s.clusterID)}
	if old != nil {
		rec = maps.Clone(old)
		delete(attrs, "owner_uuid")
		delete(attrs, "name")
		delete(attrs, "storage_classes_desired")
		rec["trash_at"], rec["delete_at"] = nil, nil
	}
	maps.Copy(rec, attrs)
	// Nobody has modified it, and its name may be taken.
	as := &Call{Caller: &Caller{IsAdmin: true}, Params: Params{"ensure_unique_name": json.RawMessage("true")}}
	saved, err := s.save(tx, as, kinds[collections], rules{check: s.checkCollection}, change{old: old, rec: rec})
	if err != nil {
		return nil, err
	}
	return saved["uuid"], nil
}
