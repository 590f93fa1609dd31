// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

// tell counts what has become of a collection, and reports it to whoever asks.
func (s *Summary) tell(row Row, report func(Row) error) error {
	s.count(row.Action, row.Collection, row.Error)
	s.NewLinks += len(row.Links)
	for _, c := range row.Cases {
		s.Cases[c.Kind]++
	}
	if report == nil {
		return nil
	}
	return report(row)
}

// count counts what has become of a collection.
func (s *Summary) count(action Action, uuid, message string) {
	switch action {
	case Written, WouldWrite, Deleted, WouldDelete:
		s.Written++
	case Unchanged:
		s.Unchanged++
	case Left:
		s.Left++
	case Failed:
		s.Failed++
		s.LastFailure = uuid + ": " + message
	}
}
