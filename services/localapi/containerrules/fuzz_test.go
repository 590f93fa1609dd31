// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/keepfile"
)

// FuzzRequest: no values, however wrong, are too much for validation, and what
// passes can be stored, shown and compared.
func FuzzRequest(f *testing.F) {
	f.Add(plainRequest)
	for _, trial := range creations {
		f.Add(trial.attrs)
	}
	f.Add(`{"runtime_constraints":{"gpu":{"device_count":"x","hardware_target":{}},"cuda":[]},"scheduling_parameters":{"partitions":[1]}}`)
	f.Add(`{"mounts":{"":null,"/x":[],"/y":{"kind":{},"device_type":[],"capacity":{}}},"published_ports":{"1":{"access":{}}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var g Given
		if json.Unmarshal([]byte(text), &g) != nil {
			return
		}
		for _, was := range []Record{nil, {"state": Uncommitted}, {"state": Committed}, {"state": Final}} {
			r := RequestChange{Was: NewRequest(), New: was == nil}
			for attr, value := range was {
				r.Was[attr] = value
			}
			var refusal *Refusal
			if r.Is, refusal = Requests.Assign(r.Was, g); refusal == nil {
				r.Fill(DefaultConfig)
				refusal = r.Validate()
			}
			if refusal != nil {
				checkRefusal(t, refusal)
				continue
			}
			if _, err := json.Marshal(RequestReply(r.Is)); err != nil {
				t.Errorf("cannot be shown: %v", err)
			}
			container := NewContainer(r.Is, Definition{Mounts: asHash(r.Is["mounts"])}, DefaultConfig)
			if !alike(container, NewContainer(r.Is, Definition{Mounts: asHash(r.Is["mounts"])}, DefaultConfig)) {
				t.Errorf("%v differs from itself", container)
			}
		}
	})
}

// FuzzContainer is the like for containers.
func FuzzContainer(f *testing.F) {
	for _, attr := range slices.Sorted(maps.Keys(values)) {
		f.Add(`{"` + attr + `":` + values[attr] + `}`)
	}
	request := RequestChange{Was: NewRequest(), Is: NewRequest(), New: true}
	request.Fill(DefaultConfig)
	request.Is["command"], request.Is["output_path"] = []any{"echo"}, "/out"
	def := Definition{Image: emptyBlock, Mounts: map[string]any{}, Scopes: []any{"all"}}
	f.Add(`{"state":"Complete","runtime_status":null,"output_properties":[],"progress":"0x10","lock_count":1e300}`)
	f.Add(`{"state":5,"priority":{},"finished_at":[],"interactive_session_started":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var g Given
		if json.Unmarshal([]byte(text), &g) != nil {
			return
		}
		for _, state := range []string{Queued, Locked, Running, Complete, Cancelled} {
			for _, caller := range []ContainerCaller{dispatcher, otherAdmin, contained, user} {
				r := ContainerChange{Was: NewContainer(request.Is, def, DefaultConfig), Given: g, Caller: caller}
				r.Was["state"], r.Was["priority"] = state, int64(1)
				if HasToken(r.Was) {
					r.Was["locked_by_uuid"], r.Was["auth_uuid"] = lockToken, contained.Token
				}
				var refusal *Refusal
				if r.Is, refusal = Containers.Assign(r.Was, g); refusal == nil {
					if refusal = r.Prepare(DefaultConfig, now); refusal == nil {
						refusal = r.Validate()
					}
				}
				if refusal != nil {
					checkRefusal(t, refusal)
					continue
				}
				r.Settle()
				if HasToken(r.Is) != (r.Is["locked_by_uuid"] != nil) {
					t.Errorf("%v is held by %v", r.Is["state"], r.Is["locked_by_uuid"])
				}
				if _, err := json.Marshal(ContainerReply(r.Is)); err != nil {
					t.Errorf("cannot be shown: %v", err)
				}
			}
		}
	})
}

func checkRefusal(t *testing.T, refusal *Refusal) {
	if refusal.Status < 400 || len(refusal.Lines()) == 0 || refusal.Lines()[0] == "" {
		t.Errorf("a refusal that does not say why: %v", refusal)
	}
}

// FuzzMergeLog: whatever is in the logs, all of the last one is there
// afterwards, twice.
func FuzzMergeLog(f *testing.F) {
	f.Add("", ". "+emptyBlock+" 0:0:stderr.txt\n")
	f.Add(". "+emptyBlock+" 0:0:a\n./a "+emptyBlock+" 0:0:b\n", ". 0cc175b9c0f1b6a831c399e269772661+1 0:1:a/b 0:0:c\n")
	f.Add("./d "+emptyBlock+" 0:0:\\056\n", ". 0cc175b9c0f1b6a831c399e269772661+1 0:1:d\n")
	f.Fuzz(func(t *testing.T, manifest, log string) {
		merged, err := MergeLog(manifest, log, ctrUUID, true)
		if err != nil {
			return
		}
		added, err := keepfile.ParseManifest(log)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range added {
			if strings.Count(merged, "\n") == 0 && len(file.Segments) > 0 {
				t.Errorf("%q is lost", file.Path)
			}
		}
		if IsImage(merged) {
			t.Errorf("logs became an image: %q", merged)
		}
	})
}

func FuzzIsImage(f *testing.F) {
	f.Add(". " + emptyBlock + " 0:0:sha256:" + strings.Repeat("a", 64) + ".tar\n")
	f.Add(". " + emptyBlock + " 0:0:\\056\n")
	f.Fuzz(func(t *testing.T, manifest string) {
		if IsImage(manifest) && !strings.Contains(manifest, ".tar") && !strings.Contains(manifest, `\`) {
			t.Errorf("%q passes for an image", manifest)
		}
	})
}
