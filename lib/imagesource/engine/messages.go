// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
)

// message is one object of the streams with which an engine answers pull and
// load: JSON objects one after the other, usually one a line.
type message struct {
	ID       string `json:"id"`     // short id of a layer, or a tag
	Status   string `json:"status"` // "Downloading", "Digest: sha256:…"
	Stream   string `json:"stream"` // text for a terminal (load)
	Progress struct {
		Current int64  `json:"current"`
		Total   int64  `json:"total"`
		Units   string `json:"units"` // "" is bytes
	} `json:"progressDetail"`
	Error  string `json:"error"`
	Detail struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
}

// String is the message as a line for people: "4b481de2e3b2 Downloading, 12 MiB
// of 40 MiB".
func (m message) String() string {
	line := strings.TrimSpace(m.ID + " " + m.Status)
	if m.Status == "" {
		line = strings.TrimSpace(m.Stream)
	}
	if p := m.Progress; p.Units == "" && p.Current > 0 {
		line += ", " + humanize.IBytes(uint64(p.Current))
		if p.Total > 0 {
			line += " of " + humanize.IBytes(uint64(p.Total))
		}
	}
	return line
}

// failure is the error that the message reports, nil if it reports none.
func (m message) failure() error {
	if m.Detail.Message != "" {
		return errors.New(m.Detail.Message)
	}
	if m.Error != "" {
		return errors.New(m.Error)
	}
	return nil
}

// readMessages calls see for every message and reads to the end, whatever
// comes: the status was 200 long before the first error, and an error may come
// after what looks like success. The first error wins. A stream that breaks off
// (or is no JSON) ends with errCut.
func readMessages(r io.Reader, see func(message)) error {
	var first error
	for dec := json.NewDecoder(r); ; {
		var m message
		err := dec.Decode(&m)
		if errors.Is(err, io.EOF) {
			return first
		}
		if err != nil {
			if first != nil {
				return first
			}
			if isCancel(err) {
				return err
			}
			return fmt.Errorf("%w: %v", errCut, err)
		}
		if err := m.failure(); err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		see(m)
	}
}
