// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// SyncStats counts what a Sync does. It answers HTTP requests in the text format of
// Prometheus, version 0.0.4. The zero value is ready.
type SyncStats struct {
	mtx        sync.Mutex
	looks      int
	trouble    int // looks that have failed
	last       time.Time
	changes    map[string]int // by kind of record
	until      map[string]time.Time
	properties int // collections that were changed
	links      int
	refused    int
	others     int // names by links of others than the owner
}

func (s *SyncStats) looked() {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.looks++
	s.last = time.Now()
}

func (s *SyncStats) failed() {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.looks++
	s.trouble++
}

// changed counts changes that have been dealt with, up to a time.
func (s *SyncStats) changed(kind string, n int, until time.Time) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.changes == nil {
		s.changes, s.until = map[string]int{}, map[string]time.Time{}
	}
	s.changes[kind] += n
	s.until[kind] = until
}

// count counts what was written.
func (s *SyncStats) count(row Row) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.links += len(row.Links)
	for _, special := range row.Cases {
		if special.Kind == OtherOwner {
			s.others++
		}
	}
	switch {
	case row.Action == Failed:
		s.refused++
	case row.Action == Written && len(row.Links) == 0:
		s.properties++
	}
}

// ServeHTTP answers with the numbers of now.
func (s *SyncStats) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(s.text()) // fails if nobody listens any more
}

func (s *SyncStats) text() []byte {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	var text bytes.Buffer
	family := func(name, kind, help string) {
		fmt.Fprintf(&text, "# HELP arv_docker_sync_%s %s\n# TYPE arv_docker_sync_%s %s\n", name, help, name, kind)
	}
	counter := func(name, help string, n int) {
		family(name, "counter", help)
		fmt.Fprintf(&text, "arv_docker_sync_%s %d\n", name, n)
	}
	counter("looks_total", "Times that it has looked for changes.", s.looks)
	counter("failed_looks_total", "Of these, those that the API server has not let come to an end.", s.trouble)
	counter("properties_written_total", "Collections whose properties were changed.", s.properties)
	counter("links_written_total", "Links that were made.", s.links)
	counter("refused_total", "Collections that could not be brought into step.", s.refused)
	counter("names_by_others_total", "Names of collections that were looked at, by links that belong to somebody else.", s.others)
	family("last_look_timestamp_seconds", "gauge", "When it has last seen all changes; 0 if it has not yet.")
	fmt.Fprintf(&text, "arv_docker_sync_last_look_timestamp_seconds %s\n", seconds(s.last))
	family("changes_total", "counter", "Changes that were dealt with, by kind of record.")
	for _, kind := range slices.Sorted(maps.Keys(s.changes)) {
		fmt.Fprintf(&text, "arv_docker_sync_changes_total{kind=%q} %d\n", kind, s.changes[kind])
	}
	family("until_timestamp_seconds", "gauge", "Changes up to then have been dealt with, by kind of record.")
	for _, kind := range slices.Sorted(maps.Keys(s.until)) {
		fmt.Fprintf(&text, "arv_docker_sync_until_timestamp_seconds{kind=%q} %s\n", kind, seconds(s.until[kind]))
	}
	return text.Bytes()
}

// seconds is a time as Prometheus has it.
func seconds(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return fmt.Sprintf("%.3f", float64(t.UnixMilli())/1000)
}
