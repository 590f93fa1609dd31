// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"sync"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"golang.org/x/sync/errgroup"
)

// Unlink deletes the links that the report of ToLinks or a Sync tells of. Links that
// somebody has changed since stay.
type Unlink struct {
	API      dockerimage.API // as an administrator
	Path     string          // of the report; it is only read, and may be used again
	DryRun   bool
	Parallel int     // requests at a time; 0 means 4
	Rate     float64 // links a second at most; 0 for no limit
	Report   func(Unlinked) error
}

// Unlinked is one line of the report of an Unlink.
type Unlinked struct {
	Link       string `json:"link"`
	Collection string `json:"collection"`
	Action     Action `json:"action"`        // Deleted, WouldDelete, Unchanged if it is gone, Failed or Left
	Why        Kind   `json:"why,omitempty"` // it is left
	Error      string `json:"error,omitempty"`
}

// Actions of an Unlink.
const (
	Deleted     Action = "deleted"
	WouldDelete Action = "would-delete" // in a dry run
)

// About links that are not deleted.
const (
	ChangedLink Kind = "changed-link" // is another one than was made
	TornLine    Kind = "torn-line"    // of the report; power has failed while it was written
)

// Run deletes them, and counts the deleted ones as written.
func (u *Unlink) Run(ctx context.Context) (Summary, error) {
	n := &unlinking{Unlink: u, pace: newPace(u.Rate), summary: Summary{Cases: map[Kind]int{}}}
	file, err := os.Open(u.Path)
	if err != nil {
		return n.summary, &fault.Error{Op: "open report", Side: fault.Request, Err: err, Hint: "name the report of migrate --to-links or sync"}
	}
	defer file.Close()
	var batch []madeLink
	err = eachLine(file, func(start int64, text []byte) error {
		var row Row
		err := json.Unmarshal(text, &row)
		var torn *json.SyntaxError
		if start > 0 && errors.As(err, &torn) {
			n.summary.Cases[TornLine]++
			return nil
		}
		if err != nil || row.Collection == "" || row.Action == "" {
			err = cmp.Or(err, errors.New("it tells of no collection"))
			return &fault.Error{Op: "read report", Side: fault.Request, Subject: u.Path, Err: err, Hint: "name the report of migrate --to-links or sync"}
		}
		for _, link := range row.Links {
			if isLink(link.UUID) { // a dry run makes none
				batch = append(batch, madeLink{link, row.Collection})
			}
		}
		if len(batch) < n.pace.chunk() {
			return nil
		}
		some := batch
		batch = nil
		return n.delete(ctx, some)
	})
	if err != nil {
		return n.summary, err
	}
	return n.summary, n.delete(ctx, batch)
}

// isLink reports whether that is the UUID of a link.
func isLink(uuid string) bool { return arvados.UUIDMatch(uuid) && uuid[6:11] == "o0j2j" }

// unlinking is an Unlink under way.
type unlinking struct {
	*Unlink
	pace    *pace
	mtx     sync.Mutex // guards what follows, and that one line is told at a time
	summary Summary
	streak  streak
}

// madeLink is a link as it was made.
type madeLink struct {
	NewLink
	head string
}

// delete deletes some links, as far as they are there and are as they were made.
func (n *unlinking) delete(ctx context.Context, batch []madeLink) error {
	if len(batch) == 0 {
		return nil
	}
	var uuids []string
	for _, link := range batch {
		uuids = append(uuids, link.UUID)
	}
	list, err := listLinks(ctx, n.API, "uuid", arvados.Filter{Attr: "uuid", Operator: "in", Operand: uuids})
	if err != nil {
		return err
	}
	there := map[string]arvados.Link{}
	for _, link := range list.Items {
		there[link.UUID] = link
	}
	writers, ctx := errgroup.WithContext(ctx)
	writers.SetLimit(cmp.Or(n.Parallel, defaultParallel))
	for _, link := range batch {
		row := Unlinked{Link: link.UUID, Collection: link.head, Action: Deleted}
		is, ok := there[link.UUID]
		delete(there, link.UUID) // a report may tell of a link twice
		switch {
		case !ok:
			row.Action = Unchanged
		case is.LinkClass != link.Class || is.Name != link.Name || is.HeadUUID != link.head:
			row.Action, row.Why = Left, ChangedLink
		case n.DryRun:
			row.Action = WouldDelete
		}
		writers.Go(func() error { return n.deleteOne(ctx, row) })
	}
	return writers.Wait()
}

// deleteOne deletes a link if that is planned, and tells what has become of it.
func (n *unlinking) deleteOne(ctx context.Context, row Unlinked) error {
	if row.Action != Deleted {
		return n.tell(row, nil)
	}
	if err := n.pace.wait(ctx); err != nil {
		return err
	}
	err := n.API.RequestAndDecodeContext(ctx, nil, http.MethodDelete, "arvados/v1/links/"+row.Link, nil, nil)
	if err != nil && !isRefusal(err) && !isFailure(err) {
		return apiFault("delete link", row.Link, err)
	}
	if err != nil {
		row.Action, row.Error = Failed, err.Error()
	}
	return n.tell(row, err)
}

// tell counts and tells what has become of a link, after err.
func (n *unlinking) tell(row Unlinked, err error) error {
	n.mtx.Lock()
	defer n.mtx.Unlock()
	n.summary.Links++
	n.summary.count(row.Action, row.Link, row.Error)
	if row.Why != "" {
		n.summary.Cases[row.Why]++
	}
	if n.Report != nil {
		if err := n.Report(row); err != nil {
			return err
		}
	}
	return n.streak.add(row.Collection, err)
}
