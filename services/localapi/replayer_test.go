// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strings"

	"gopkg.in/check.v1"
)

// exchange is one recorded request and reply of a genuine cluster.
type exchange struct {
	Label    string
	Token    string
	Method   string
	Path     string
	Body     json.RawMessage
	Status   int
	Response json.RawMessage
}

// replayer sends recorded requests to a server and compares the replies. UUIDs
// and hashes of the recording are translated: what a reply has in the place of
// one that is not known yet becomes its translation.
type replayer struct {
	c      *check.C
	server *Server
	tokens map[string]string // by name in the recording; "container-token" may be added on the way
	ids    map[string]string // recorded to ours
	// after, if not nil, sees each exchange after its reply.
	after func(e exchange, reply answer)
}

// idPattern matches what is translated.
var idPattern = regexp.MustCompile(`[0-9a-z]{5}-[0-9a-z]{5}-[0-9a-z]{15}|[0-9a-f]{32}\+[0-9]+`)

// volatile is what differs from run to run, and what stands for it.
var volatile = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`\(req-[0-9a-z]{20}\)`), "(req)"},
	{regexp.MustCompile(`\+A[0-9a-f]{40}@[0-9a-f]{8}`), "+A"},
	{regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z$`), "TIME"},
}

func readExchanges(c *check.C, file string) []exchange {
	buf, err := os.ReadFile(filepath.Join("testdata", "recorded", file))
	c.Assert(err, check.IsNil)
	var list []exchange
	for _, line := range strings.Split(strings.TrimSpace(string(buf)), "\n") {
		var e exchange
		c.Assert(json.Unmarshal([]byte(line), &e), check.IsNil)
		list = append(list, e)
	}
	return list
}

// run replays a file and returns what diverges, by "number label".
func (r *replayer) run(file string) (total int, divergences map[string]string) {
	divergences = map[string]string{}
	for i, e := range readExchanges(r.c, file) {
		total++
		if problem := r.one(e); problem != "" {
			divergences[fmt.Sprintf("%d %s", i+1, e.Label)] = problem
		}
	}
	return total, divergences
}

func (r *replayer) one(e exchange) string {
	as := client{r.c, r.server, r.tokens[e.Token]}
	var body *strings.Reader
	path := strings.NewReplacer("%", "%25", " ", "+", `"`, "%22", "<", "%3C", ">", "%3E", "#", "%23").Replace(r.translate(e.Path))
	reply := answer{}
	if len(e.Body) == 0 || string(e.Body) == "null" {
		reply = as.raw(e.Method, path, "", nil)
	} else {
		body = strings.NewReader(r.translate(string(e.Body)))
		reply = as.raw(e.Method, path, "application/json", body)
	}
	recorded, err := decodeJSON(e.Response)
	r.c.Assert(err, check.IsNil)
	if reply.status == e.Status {
		r.learn(recorded, reply.body)
	}
	if r.after != nil {
		r.after(e, reply)
	}
	if reply.status != e.Status {
		return fmt.Sprintf("status %d, recorded %d: %v", reply.status, e.Status, reply.body)
	}
	want, got := r.normal("", recorded, true), r.normal("", any(reply.body), false)
	if !reflect.DeepEqual(want, got) {
		return "body: " + firstDifference("", want, got)
	}
	return ""
}

// translate replaces recorded identifiers that are known.
func (r *replayer) translate(text string) string {
	return idPattern.ReplaceAllStringFunc(text, func(id string) string {
		if ours, ok := r.ids[id]; ok {
			return ours
		}
		return id
	})
}

// learn finds translations where a reply has an identifier in the place of a
// recorded one of the same kind.
func (r *replayer) learn(recorded, ours any) {
	switch recorded := recorded.(type) {
	case map[string]any:
		mine, _ := ours.(map[string]any)
		for key, value := range recorded {
			r.learn(value, mine[key])
		}
	case []any:
		mine, _ := ours.([]any)
		for i := range min(len(recorded), len(mine)) {
			r.learn(recorded[i], mine[i])
		}
	case string:
		mine, _ := ours.(string)
		if len(recorded) != 27 || len(mine) != 27 || recorded[5:12] != mine[5:12] || !idPattern.MatchString(mine) {
			return
		}
		if _, known := r.ids[recorded]; !known {
			r.ids[recorded] = mine
		}
	}
}

// normal is a reply without what differs from run to run.
func (r *replayer) normal(key string, v any, isRecorded bool) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, value := range v {
			if name != "error_token" {
				out[name] = r.normal(name, value, isRecorded)
			}
		}
		return out
	case []any:
		out := []any{}
		for _, item := range v {
			out = append(out, r.normal(key, item, isRecorded))
		}
		return out
	case int64:
		if key == "priority" && v > 1<<40 {
			return "PRIORITY" // depends on the time
		}
		return float64(v)
	case string:
		if key == "etag" && v != "" {
			return "ETAG"
		}
		if key == "api_token" {
			return "SECRET"
		}
		if isRecorded {
			v = r.translate(v)
			for theirs, ours := range r.ids {
				if len(theirs) == 27 { // names that were made unique
					v = strings.ReplaceAll(v, "("+theirs[12:]+")", "("+ours[12:]+")")
				}
			}
		}
		for _, change := range volatile {
			v = change.pattern.ReplaceAllString(v, change.instead)
		}
		return v
	}
	return v
}

// firstDifference says where two values differ.
func firstDifference(path string, want, got any) string {
	wantMap, ok1 := want.(map[string]any)
	gotMap, ok2 := got.(map[string]any)
	if ok1 && ok2 {
		keys := map[string]bool{}
		for key := range wantMap {
			keys[key] = true
		}
		for key := range gotMap {
			keys[key] = true
		}
		var sorted []string
		for key := range keys {
			sorted = append(sorted, key)
		}
		sort.Strings(sorted)
		for _, key := range sorted {
			if w, ok := wantMap[key]; !ok {
				return fmt.Sprintf("%s.%s: not recorded, got %#v", path, key, gotMap[key])
			} else if g, ok := gotMap[key]; !ok {
				return fmt.Sprintf("%s.%s: missing, recorded %#v", path, key, w)
			} else if !reflect.DeepEqual(w, g) {
				return firstDifference(path+"."+key, w, g)
			}
		}
	}
	wantList, ok1 := want.([]any)
	gotList, ok2 := got.([]any)
	if ok1 && ok2 && len(wantList) == len(gotList) {
		for i := range wantList {
			if !reflect.DeepEqual(wantList[i], gotList[i]) {
				return firstDifference(fmt.Sprintf("%s[%d]", path, i), wantList[i], gotList[i])
			}
		}
	}
	return fmt.Sprintf("%s: recorded %#v, got %#v", path, want, got)
}

// check compares divergences with those that are known, and logs the count.
func (r *replayer) check(file string, known map[string]string) {
	total, divergences := r.run(file)
	r.c.Logf("%s: %d of %d exchanges reproduced", file, total-len(divergences), total)
	for label, problem := range divergences {
		if known[label] == "" {
			r.c.Errorf("%s: %s: %s", file, label, problem)
		}
	}
	for label, reason := range known {
		if divergences[label] == "" {
			r.c.Errorf("%s: %s no longer diverges (%s): take it off the list", file, label, reason)
		}
	}
}
