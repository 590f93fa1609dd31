// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package containerrules says what the Arvados API server lets clients do with
// container requests and containers, and what follows from it: which values
// are valid, which attributes may change in which state and by whom, which
// container a new request may share, and what becomes of priorities, outputs
// and logs. Messages are those of Arvados (HEAD of November 2026), word for
// word, since clients and people compare them.
//
// It is for the embedded API server. All of it is computation on values: it
// never stores anything, looks at no clock and calls nobody.
package containerrules

// Record is a container request or container by attribute. Values are nil,
// bool, int64, float64, string, []any and map[string]any; times are strings in
// TimeFormat.
type Record = map[string]any

// TimeFormat is how records and replies write a time, always in UTC.
const TimeFormat = "2006-01-02T15:04:05.000000000Z"

// Refusal is why a client does not get what it asked for.
type Refusal struct {
	Status int // HTTP
	// Exception is the class that Arvados raises, "" if validation failed.
	Exception string
	// Messages are one for each failed validation, or the one of the
	// exception.
	Messages []string
}

// Lines are the messages as replies have them.
func (r *Refusal) Lines() []string {
	if r.Exception == "" {
		return r.Messages
	}
	return []string{"#<" + r.Exception + ": " + r.Messages[0] + ">"}
}

func exception(status int, class, message string) *Refusal {
	return &Refusal{Status: status, Exception: class, Messages: []string{message}}
}

// PermissionDenied is the refusal of a caller who may not do that at all.
func PermissionDenied(message string) *Refusal {
	return exception(403, "ArvadosModel::PermissionDeniedError", message)
}

// LockFailed is the refusal of a lock.
func LockFailed(message string) *Refusal {
	return exception(422, "ArvadosModel::LockFailedError", message)
}

// NotLocked is the refusal to unlock.
func NotLocked(message string) *Refusal {
	return exception(422, "ArvadosModel::InvalidStateTransitionError", message)
}

// Unresolvable is the refusal of a request whose image or input nobody finds.
func Unresolvable(message string) *Refusal {
	return exception(422, "ArvadosModel::UnresolvableContainerError", message)
}

// problems collects failed validations, in the order in which Arvados makes
// them.
type problems struct {
	messages []string
	attrs    map[string]bool // that have a problem
}

func (p *problems) add(attr, text string) {
	if p.attrs == nil {
		p.attrs = map[string]bool{}
	}
	p.attrs[attr] = true
	p.messages = append(p.messages, human(attr)+" "+text)
}

func (p *problems) refusal() *Refusal {
	if len(p.messages) == 0 {
		return nil
	}
	return &Refusal{Status: 422, Messages: p.messages}
}
