// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"sync"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"golang.org/x/sync/errgroup"
)

// Undo is a line of the rollback file: the properties of a collection before and
// after they were written, as the server has them.
type Undo struct {
	Collection string          `json:"collection"`
	Before     json.RawMessage `json:"before"`
	After      json.RawMessage `json:"after"`
}

// RollbackFile holds what a migration has written, in JSON lines. A line is safe on
// disk before the server is asked to write.
type RollbackFile struct {
	file *os.File
	mtx  sync.Mutex
}

// OpenRollback opens a file to add to it. A line that a program which was stopped
// has not written to its end is taken away: nothing has been changed by it.
func OpenRollback(path string) (*RollbackFile, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0600)
	if err != nil {
		return nil, &fault.Error{Op: "open rollback file", Side: fault.Request, Err: err, Hint: "name a file that can be written"}
	}
	end := int64(0)
	err = eachLine(file, func(start int64, line []byte) error {
		end = start + int64(len(line)) + 1
		return nil
	})
	if err == nil {
		err = file.Truncate(end)
	}
	if err == nil {
		_, err = file.Seek(end, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return nil, &fault.Error{Op: "read rollback file", Side: fault.Request, Err: err}
	}
	return &RollbackFile{file: file}, nil
}

// Close closes the file.
func (f *RollbackFile) Close() error { return f.file.Close() }

// add puts lines on disk.
func (f *RollbackFile) add(lines ...Undo) error {
	if len(lines) == 0 {
		return nil
	}
	var text bytes.Buffer
	for _, line := range lines {
		buf, err := json.Marshal(line)
		if err != nil {
			return err
		}
		text.Write(buf)
		text.WriteByte('\n')
	}
	f.mtx.Lock()
	defer f.mtx.Unlock()
	_, err := f.file.Write(text.Bytes())
	if err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		return &fault.Error{Op: "write rollback file", Side: fault.Request, Err: err, Hint: "make room for it, and start again"}
	}
	return nil
}

// eachLine calls with each whole line, without its end, and where it starts.
func eachLine(file *os.File, with func(start int64, line []byte) error) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(file, 1<<20)
	for start := int64(0); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := with(start, line[:len(line)-1]); err != nil {
			return err
		}
		start += int64(len(line))
	}
}

// Rollback undoes what a file tells, the last change first. Properties that
// somebody has changed since stay as they are; all others get what they had, and a
// collection that nobody has touched since has exactly what it had.
type Rollback struct {
	API      dockerimage.API // as an administrator
	File     *RollbackFile
	Parallel int     // writes at a time; 0 means 4
	Rate     float64 // writes a second at most; 0 for no limit
	Report   func(Undone) error
}

// Undone is one line of the report of a rollback.
type Undone struct {
	Collection string   `json:"collection"`
	Action     Action   `json:"action"`         // Written, Unchanged, Failed, or Left: it is gone
	Kept       []string `json:"kept,omitempty"` // keys that somebody has changed since
	Error      string   `json:"error,omitempty"`
}

// Run undoes it all, and counts.
func (r *Rollback) Run(ctx context.Context) (Summary, error) {
	var lines []int64
	err := eachLine(r.File.file, func(start int64, _ []byte) error {
		lines = append(lines, start)
		return nil
	})
	if err != nil {
		return Summary{}, &fault.Error{Op: "read rollback file", Side: fault.Request, Err: err}
	}
	pace := newPace(r.Rate)
	var summary Summary
	var batch []Undo
	seen := map[string]bool{}
	flush := func() error {
		if err := r.undo(ctx, batch, pace, &summary); err != nil {
			return err
		}
		batch = nil
		clear(seen)
		return nil
	}
	for number, start := range slices.Backward(lines) {
		line, err := r.line(start)
		if err != nil {
			return summary, &fault.Error{Op: "read rollback file", Side: fault.Request, Subject: "line " + strconv.Itoa(number+1), Err: err,
				Hint: "it must be as arv-docker migrate has written it"}
		}
		// Two changes of one collection have an order.
		if seen[line.Collection] || len(batch) == pace.chunk() {
			if err := flush(); err != nil {
				return summary, err
			}
		}
		seen[line.Collection] = true
		batch = append(batch, line)
	}
	return summary, flush()
}

func (r *Rollback) line(start int64) (u Undo, err error) {
	reader := bufio.NewReader(io.NewSectionReader(r.File.file, start, 1<<62))
	text, err := reader.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, &u)
	}
	if err == nil && !isCollection(u.Collection) {
		err = fmt.Errorf("%.100q is not the UUID of a collection", u.Collection)
	}
	return u, err
}

// undo undoes changes of different collections.
func (r *Rollback) undo(ctx context.Context, batch []Undo, pace *pace, summary *Summary) error {
	var uuids []string
	for _, u := range batch {
		uuids = append(uuids, u.Collection)
	}
	colls, err := collections(ctx, r.API, "uuid", uuids)
	if err != nil {
		return err
	}
	undone := make([]Undone, len(batch))
	writers, ctx := errgroup.WithContext(ctx)
	writers.SetLimit(cmp.Or(r.Parallel, defaultParallel))
	for i, u := range batch {
		undone[i] = Undone{Collection: u.Collection, Action: Left}
		at := slices.IndexFunc(colls, func(coll collection) bool { return coll.UUID == u.Collection })
		if at < 0 {
			continue
		}
		properties, kept, err := u.from(colls[at])
		if err != nil {
			return &fault.Error{Op: "read rollback file", Side: fault.Request, Subject: u.Collection, Err: err}
		}
		undone[i].Kept, undone[i].Action = kept, Unchanged
		if properties == nil {
			continue
		}
		writers.Go(func() error {
			if err := pace.wait(ctx); err != nil {
				return err
			}
			err := setProperties(ctx, r.API, u.Collection, properties)
			switch {
			case isRefusal(err):
				undone[i].Action, undone[i].Error = Failed, err.Error()
			case err != nil:
				return apiFault("change collection", u.Collection, err)
			default:
				undone[i].Action = Written
			}
			return nil
		})
	}
	if err := writers.Wait(); err != nil {
		return err
	}
	for _, u := range undone {
		summary.Heads++
		summary.count(u.Action, u.Collection, u.Error)
		if r.Report != nil {
			if err := r.Report(u); err != nil {
				return err
			}
		}
	}
	return nil
}

// from is what a collection's properties are to be, nil if they are that already,
// and the keys that somebody has changed since.
func (u Undo) from(coll collection) (json.RawMessage, []string, error) {
	before, err := decode(u.Before)
	if err != nil {
		return nil, nil, err
	}
	after, err := decode(u.After)
	if err != nil {
		return nil, nil, err
	}
	now := coll.Properties
	if reflect.DeepEqual(now, after) {
		return u.Before, nil, nil
	}
	result := maps.Clone(now)
	changed := false
	var kept []string
	for _, key := range slices.Sorted(maps.Keys(after)) {
		was, had := before[key]
		is, has := now[key]
		wrote := after[key]
		switch {
		case had && reflect.DeepEqual(was, wrote): // not ours
		case has == had && reflect.DeepEqual(is, was): // is undone
		case !has || !reflect.DeepEqual(is, wrote):
			kept = append(kept, key)
		case had:
			result[key], changed = was, true
		default:
			delete(result, key)
			changed = true
		}
	}
	if !changed {
		return nil, kept, nil
	}
	raw, err := json.Marshal(result)
	return raw, kept, err
}
