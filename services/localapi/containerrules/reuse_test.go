// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"errors"
	"maps"
	"testing"

	"gopkg.in/check.v1"
	"pgregory.net/rapid"
)

var _ = check.Suite(&reuseSuite{})

type reuseSuite struct{}

func everything(string) (bool, error) { return true, nil }

// done is a container that anybody would want to share.
func done(c *check.C) Record {
	container := containerIn(c, Complete)
	container["uuid"] = "done"
	container["exit_code"] = int64(0)
	container["log"], container["output"] = "log", "output"
	container["created_at"] = earlier
	return container
}

func with(record Record, attrs Record) Record {
	record = maps.Clone(record)
	maps.Copy(record, attrs)
	return record
}

func (*reuseSuite) TestAnEqualContainerIsShared(c *check.C) {
	found, err := FindReusable([]Record{done(c)}, containerIn(c, Queued), everything)
	c.Assert(err, check.IsNil)
	c.Check(found["uuid"], check.Equals, "done")
}

func (*reuseSuite) TestWhatMustBeEqual(c *check.C) {
	constraints := func(attrs Record) Record {
		rc := with(asHash(done(c)["runtime_constraints"]), attrs)
		return Record{"runtime_constraints": map[string]any(rc)}
	}
	for _, trial := range []struct {
		attrs Record
		equal bool
	}{
		{Record{"command": []any{"echo", "ho"}}, false},
		{Record{"cwd": "/elsewhere"}, false},
		{Record{"environment": map[string]any{"A": "b"}}, false},
		{Record{"output_path": "/elsewhere"}, false},
		{Record{"output_glob": []any{"*"}}, false},
		{Record{"container_image": "65886c330275ab0cf75187d1fd58614c+117"}, false},
		{Record{"mounts": map[string]any{}}, false},
		{Record{"secret_mounts_md5": "x"}, false},
		{Record{"output_glob": nil}, true},
		{Record{"runtime_user_uuid": "somebody"}, true},
		{Record{"runtime_auth_scopes": []any{"none"}}, true},
		{Record{"output_storage_classes": []any{"archive"}}, true},
		{Record{"output_properties": map[string]any{"a": "b"}}, true},
		{Record{"scheduling_parameters": map[string]any{"supervisor": true}}, true},
		{constraints(Record{"ram": int64(2000000)}), false},
		{constraints(Record{"vcpus": int64(2)}), false},
		{constraints(Record{"API": false}), false},
		{constraints(Record{"keep_cache_disk": int64(0)}), true},
		{constraints(Record{"keep_cache_disk": int64(32 << 30)}), true},
		{constraints(Record{"keep_cache_disk": int64(5 << 30)}), false},
		{constraints(Record{"keep_cache_ram": int64(5 << 30)}), false},
		{constraints(Record{"gpu": nil}), true},
		{constraints(Record{"gpu": map[string]any{"device_count": int64(0), "stack": "rocm"}}), true},
		{constraints(Record{"gpu": map[string]any{"device_count": int64(1)}}), false},
		{constraints(Record{"cuda": map[string]any{"device_count": int64(0)}}), true},
	} {
		found, err := FindReusable([]Record{with(done(c), trial.attrs)}, containerIn(c, Queued), everything)
		c.Assert(err, check.IsNil)
		c.Check(found != nil, check.Equals, trial.equal, check.Commentf("%v", trial.attrs))
	}
}

func (*reuseSuite) TestWhichStatesCount(c *check.C) {
	for _, trial := range []struct {
		state string
		attrs Record
		good  bool
	}{
		{Complete, nil, true},
		{Complete, Record{"exit_code": int64(1)}, false},
		{Complete, Record{"exit_code": nil}, false},
		{Complete, Record{"log": nil}, false},
		{Complete, Record{"output": nil}, false},
		{Complete, Record{"output": "gone"}, false},
		{Complete, Record{"log": "gone"}, false},
		{Cancelled, nil, false},
		{Running, nil, true},
		{Running, Record{"priority": int64(0)}, false},
		{Running, Record{"runtime_status": map[string]any{"error": "e"}}, false},
		{Running, Record{"runtime_status": map[string]any{"warning": "w"}}, true},
		{Locked, nil, true},
		{Queued, nil, true},
		{Queued, Record{"priority": int64(0)}, true},
		{Queued, Record{"scheduling_parameters": map[string]any{"preemptible": true}}, false},
	} {
		candidate := with(with(done(c), Record{"state": trial.state}), trial.attrs)
		found, err := FindReusable([]Record{candidate}, containerIn(c, Queued), func(pdh string) (bool, error) { return pdh != "gone", nil })
		c.Assert(err, check.IsNil)
		c.Check(found != nil, check.Equals, trial.good, check.Commentf("%s %v", trial.state, trial.attrs))
	}
	preemptible := Record{"state": Queued, "scheduling_parameters": map[string]any{"preemptible": true}}
	found, err := FindReusable([]Record{with(done(c), preemptible)}, with(containerIn(c, Queued), preemptible), everything)
	c.Assert(err, check.IsNil)
	c.Check(found, check.NotNil)
}

func (*reuseSuite) TestTroubleIsPassedOn(c *check.C) {
	trouble := errors.New("no such table")
	_, err := FindReusable([]Record{done(c)}, containerIn(c, Queued), func(string) (bool, error) { return false, trouble })
	c.Check(err, check.Equals, trouble)
}

func (*reuseSuite) TestSecretsAreComparedByTheirSum(c *check.C) {
	c.Check(secretsHash(nil), check.Equals, "99914b932bd37a50b983c5e7c90ae93b") // of {}, as Arvados has it
	a := map[string]any{"/s": map[string]any{"kind": "text", "content": "<&>"}}
	b := map[string]any{"/s": map[string]any{"content": "<&>", "kind": "text"}}
	c.Check(secretsHash(a), check.Equals, secretsHash(b))
	// md5 of {"/s":{"content":"<&>","kind":"text"}}: nothing is escaped
	c.Check(secretsHash(a), check.Equals, "5a3c856b74ee29b5dae8b5f402e02667")
}

func TestWhichContainerIsTakenOfSeveral(t *testing.T) {
	const later = "2026-11-23T15:30:00.000000000Z"
	queued := Record{"command": []any{"echo"}, "state": Queued}
	ranks := []Record{ // from the worst to the best
		{"state": Cancelled},
		{"state": Queued, "priority": int64(1), "created_at": later},
		{"state": Queued, "priority": int64(1), "created_at": earlier},
		{"state": Queued, "priority": int64(2), "created_at": later},
		{"state": Locked, "priority": int64(1)},
		{"state": Running, "priority": int64(1), "started_at": later},
		{"state": Running, "priority": int64(1), "started_at": earlier},
		{"state": Running, "priority": int64(1), "started_at": later, "progress": 0.5},
		{"state": Complete, "exit_code": int64(0), "log": "l", "output": "o", "finished_at": later},
		{"state": Complete, "exit_code": int64(0), "log": "l", "output": "o", "finished_at": earlier},
	}
	rapid.Check(t, func(t *rapid.T) {
		order := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}).Draw(t, "order")
		count := rapid.IntRange(1, len(order)).Draw(t, "count")
		var candidates []Record
		best := 0
		for _, rank := range order[:count] {
			candidates = append(candidates, with(with(queued, Record{"rank": rank}), ranks[rank]))
			best = max(best, rank)
		}
		found, err := FindReusable(candidates, queued, everything)
		if err != nil {
			t.Fatal(err)
		}
		if best == 0 && found != nil || best > 0 && found["rank"] != best {
			t.Fatalf("took %v, wanted %d", found["rank"], best)
		}
	})
}
