// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package localapi is the API server of the embedded cluster: what clients of
// images and workflows ask of an Arvados cluster, in the form in which
// arvados-controller and RailsAPI answer (HEAD of November 2026), on SQLite.
//
// It is for trying, developing and testing on one machine. It never starts a
// container, never reads or deletes a block, and answers 501 to whatever is
// not on its list.
//
// How a request goes: ServeHTTP (router.go) reads it into a Call (input.go),
// opens one transaction (store.go), finds out who calls (caller.go), and runs
// the action of a resource. Most actions are those of crud.go with a
// resource's own rules; replies are written by reply.go, refusals by
// errors.go. Records are JSON documents whose kinds are described once, in
// kinds.go, for the database, filters, replies and the discovery document.
package localapi
