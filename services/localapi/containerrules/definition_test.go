// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"errors"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&definitionSuite{})

type definitionSuite struct{}

func (*definitionSuite) TestTheContainerOfARequest(c *check.C) {
	r, refusal := create(c, `{"secret_mounts":{"/s":{"kind":"text","content":"x"}},"output_storage_classes":["a"]}`)
	c.Assert(refusal, check.IsNil)
	container := NewContainer(r.Is, Definition{Image: "pdh", Mounts: map[string]any{"/m": nil}, User: "u", Scopes: []any{"all"}}, DefaultConfig)
	for attr, want := range map[string]any{
		"state": Queued, "priority": int64(0), "container_image": "pdh", "mounts": map[string]any{"/m": nil},
		"runtime_user_uuid": "u", "command": []any{"echo", "hi"}, "output_storage_classes": []any{"a"},
		"secret_mounts": r.Is["secret_mounts"], "runtime_status": map[string]any{}, "log": nil, "lock_count": int64(0),
	} {
		c.Check(container[attr], check.DeepEquals, want, check.Commentf("%s", attr))
	}
	for _, a := range Containers.attributes {
		_, ok := container[a.name]
		c.Check(ok || a.name == "uuid" || a.name == "owner_uuid", check.Equals, true, check.Commentf("%s", a.name))
	}
}

func (*definitionSuite) TestTheServerChoosesTheSizeOfKeepsCache(c *check.C) {
	const gib = int64(1 << 30)
	for _, trial := range []struct{ ram, askedDisk, askedRAM, defaultRAM, disk, cache int64 }{
		{1000000, 0, 0, 0, 2 * gib, 0},
		{8 * gib, 0, 0, 0, 8 * gib, 0},
		{64 * gib, 0, 0, 0, 32 * gib, 0},
		{64 * gib, 3, 0, 0, 3, 0},
		{64 * gib, 0, 5, 0, 0, 5},
		{64 * gib, 0, 0, 7, 0, 7},
	} {
		rc := containerConstraints(map[string]any{"ram": trial.ram, "keep_cache_disk": trial.askedDisk, "keep_cache_ram": trial.askedRAM},
			Config{DefaultKeepCacheRAM: trial.defaultRAM})
		c.Check(rc["keep_cache_disk"], check.Equals, trial.disk)
		c.Check(rc["keep_cache_ram"], check.Equals, trial.cache)
	}
}

func (*definitionSuite) TestMountsByUUIDBecomeMountsByContent(c *check.C) {
	const known, unknown = "zzzzz-4zz18-111111111111111", "zzzzz-4zz18-000000000000000"
	find := func(uuid string) (string, error) {
		return map[string]string{known: "pdh+1"}[uuid], nil
	}
	mounts := map[string]any{
		"/out":    map[string]any{"kind": "tmp", "capacity": int64(1), "uuid": ""},
		"/named":  map[string]any{"kind": "collection", "uuid": known, "portable_data_hash": ""},
		"/pinned": map[string]any{"kind": "collection", "uuid": unknown, "portable_data_hash": "other+2"},
		"/empty":  map[string]any{"kind": "collection", "writable": true},
	}
	resolved, refusal, err := ResolveMounts(mounts, find)
	c.Assert(refusal, check.IsNil)
	c.Assert(err, check.IsNil)
	c.Check(resolved, check.DeepEquals, map[string]any{
		"/out":    map[string]any{"kind": "tmp", "capacity": int64(1), "uuid": ""},
		"/named":  map[string]any{"kind": "collection", "portable_data_hash": "pdh+1"},
		"/pinned": map[string]any{"kind": "collection", "portable_data_hash": "other+2"},
		"/empty":  map[string]any{"kind": "collection", "writable": true},
	})
	c.Check(asHash(mounts["/named"])["uuid"], check.Equals, known) // the request keeps it

	_, refusal, err = ResolveMounts(map[string]any{"/in": map[string]any{"kind": "collection", "uuid": unknown}}, find)
	c.Assert(err, check.IsNil)
	c.Check(lines(refusal), check.Equals, `#<ArvadosModel::UnresolvableContainerError: cannot mount collection "zzzzz-4zz18-000000000000000": not found>`)

	trouble := errors.New("trouble")
	_, _, err = ResolveMounts(mounts, func(string) (string, error) { return "", trouble })
	c.Check(err, check.Equals, trouble)
}

// The figures are a real cluster's.
func (*definitionSuite) TestPriority(c *check.C) {
	for _, trial := range []struct {
		state    string
		priority int64
		created  string
		want     int64
	}{
		{Committed, 500, "2026-11-23T15:28:19.361250000Z", 562948157973612639},
		{Committed, 1, "2026-11-23T15:25:34.673814000Z", 1124104459307950},
		{Committed, 0, "2026-11-23T15:25:34.892000000Z", 0},
		{Uncommitted, 1, "2026-11-23T15:25:34.892000000Z", 0},
		{Final, 1, "2026-11-23T15:25:34.892000000Z", 0},
	} {
		request := Record{"state": trial.state, "priority": trial.priority, "created_at": trial.created}
		c.Check(RequestPriority(request), check.Equals, trial.want)
	}
	older := RequestPriority(Record{"state": Committed, "priority": int64(5), "created_at": "2026-01-01T00:00:00.000000000Z"})
	newer := RequestPriority(Record{"state": Committed, "priority": int64(5), "created_at": "2026-01-01T00:00:01.000000000Z"})
	higher := RequestPriority(Record{"state": Committed, "priority": int64(6), "created_at": "2036-01-01T00:00:00.000000000Z"})
	c.Check(older > newer && higher > older, check.Equals, true)
}

func (*definitionSuite) TestWhichRequestsGetAnotherContainer(c *check.C) {
	wanted := Record{"state": Committed, "priority": int64(1), "container_count": int64(1), "container_count_max": int64(3)}
	running := Record{"state": Running, "priority": int64(1)}
	for _, trial := range []struct {
		attrs  Record
		parent Record
		retry  bool
	}{
		{nil, nil, true},
		{nil, running, true},
		{nil, with(running, Record{"state": Complete}), false},
		{nil, with(running, Record{"priority": int64(0)}), false},
		{Record{"priority": int64(0)}, nil, false},
		{Record{"state": Final}, nil, false},
		{Record{"container_count": int64(2)}, nil, true},
		{Record{"container_count": int64(3)}, nil, false},
	} {
		c.Check(CanRetry(with(wanted, trial.attrs), trial.parent), check.Equals, trial.retry, check.Commentf("%v %v", trial.attrs, trial.parent))
	}
}

func (*definitionSuite) TestTheNextContainerDoesTheSame(c *check.C) {
	cancelled := containerIn(c, Cancelled)
	cancelled["output_storage_classes"] = []any{"archive"}
	cancelled["service"] = true
	cancelled["lock_count"], cancelled["cost"], cancelled["log"] = int64(3), 1.5, "log"
	next := Retry(cancelled, []Record{{"scheduling_parameters": map[string]any{"max_run_time": int64(5)}}})
	c.Check(alike(next, cancelled), check.Equals, true)
	for attr, want := range map[string]any{
		"state": Queued, "lock_count": int64(0), "cost": 0.0, "log": nil, "finished_at": nil,
		"output_storage_classes": []any{"default"}, "service": false, "runtime_user_uuid": cancelled["runtime_user_uuid"],
	} {
		c.Check(next[attr], check.DeepEquals, want, check.Commentf("%s", attr))
	}
}

func (*definitionSuite) TestTheNextContainerSuitsAllItsRequests(c *check.C) {
	sp := func(partitions []any, limit int64, preemptible, supervisor bool) Record {
		return Record{"scheduling_parameters": map[string]any{
			"partitions": partitions, "max_run_time": limit, "preemptible": preemptible, "supervisor": supervisor}}
	}
	for _, trial := range []struct {
		requests []Record
		want     Record
	}{
		{[]Record{sp([]any{"a"}, 5, true, false)}, sp([]any{"a"}, 5, true, false)},
		{[]Record{sp([]any{"a"}, 5, true, false), sp([]any{"b", "a"}, 9, true, true)}, sp([]any{"a", "b"}, 9, true, true)},
		{[]Record{sp([]any{"a"}, 5, true, false), sp([]any{}, 0, false, false), sp([]any{"b"}, 3, true, false)}, sp([]any{}, 0, false, false)},
	} {
		c.Check(commonScheduling(trial.requests), check.DeepEquals, trial.want["scheduling_parameters"])
	}
}
