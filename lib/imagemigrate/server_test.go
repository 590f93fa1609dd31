// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with the file of that name.
func golden(c *check.C, name, text string) {
	file := filepath.Join("testdata", name+".golden")
	if *update {
		c.Assert(os.MkdirAll("testdata", 0777), check.IsNil)
		c.Assert(os.WriteFile(file, []byte(text), 0666), check.IsNil)
	}
	want, err := os.ReadFile(file)
	c.Assert(err, check.IsNil)
	c.Check(text, check.Equals, string(want), check.Commentf("%s differs", file))
}

type record map[string]interface{}

func (r record) text(attr string) string { s, _ := r[attr].(string); return s }

// server is an API server in memory. A view of it is that of one user.
type server struct {
	mtx         sync.Mutex
	collections []record
	links       []record
	groups      []record
	writes      int
	asked       int
	widest      int                             // most records in an answer
	refuse      func(method, path string) error // nil to go on
	strict      bool                            // vocabulary
	page        int                             // the most records that it gives at a time; 0 for no limit
	before      func(uuid string)               // is called before a write
	clock       int
	written     []string // UUIDs of collections and links, in the order of writing
}

// view is the server as somebody sees it; nil readable sees everything.
type view struct {
	*server
	readable []string
}

// fixture is what suites begin each test with: a server with a project, and no rows
// of a report yet.
type fixture struct {
	ctx  context.Context
	s    *server
	rows map[string]Row // by collection
}

func (f *fixture) SetUpTest(*check.C) {
	f.ctx = context.Background()
	f.s = &server{groups: []record{{"uuid": project, "can_write": true, "owner_uuid": project}}}
	f.rows = map[string]Row{}
}

// report keeps a row.
func (f *fixture) report(row Row) error {
	f.rows[row.Collection] = row
	return nil
}

const (
	alice   = "zzzzz-tpzed-alice0000000000"
	bob     = "zzzzz-tpzed-bob000000000000"
	project = "zzzzz-j7d0g-project00000000"
	system  = "zzzzz-tpzed-000000000000000"
)

var start = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// tick is a time after all that were given before.
func (s *server) tick() string {
	s.clock++
	return start.Add(time.Duration(s.clock) * time.Hour).Format(time.RFC3339Nano)
}

// hexOf is the hash of a test's image.
func hexOf(n int) string { return strings.Repeat(fmt.Sprintf("%02d", n%100), 32) }

func manifestOf(files ...string) string {
	text := ". d41d8cd98f00b204e9800998ecf8427e+0"
	for _, file := range files {
		text += " 0:0:" + strings.ReplaceAll(file, ":", `\072`)
	}
	return text + "\n"
}

// collection makes one and returns its UUID.
func (s *server) collection(owner, manifest string, properties record) string {
	uuid := fmt.Sprintf("zzzzz-4zz18-%015d", len(s.collections)*7919%1000003)
	if properties == nil {
		properties = record{}
	}
	now := s.tick()
	s.collections = append(s.collections, record{
		"uuid": uuid, "current_version_uuid": uuid, "owner_uuid": owner, "manifest_text": manifest,
		"portable_data_hash": arvados.PortableDataHash(manifest), "created_at": now, "modified_at": now, "properties": properties, "is_trashed": false,
	})
	return uuid
}

// image makes the collection of an image.
func (s *server) image(owner string, n int, properties record) string {
	return s.collection(owner, manifestOf("sha256:"+hexOf(n)+".tar"), properties)
}

// link makes one, of a class that is given in short.
func (s *server) link(owner, class, name, head string, made interface{}) {
	properties := record{}
	if made != nil {
		properties[linkTime] = made
	}
	now := s.tick()
	s.links = append(s.links, record{
		"uuid": fmt.Sprintf("zzzzz-o0j2j-%015d", len(s.links)*7907%1000003), "owner_uuid": owner, "link_class": class, "name": name,
		"head_uuid": head, "tail_uuid": "", "properties": properties, "created_at": now, "modified_at": now,
	})
}

func (s *server) get(uuid string) record {
	return s.collections[slices.IndexFunc(s.collections, func(r record) bool { return r["uuid"] == uuid })]
}

// properties are all properties of all collections.
func (s *server) properties(c *check.C) string {
	var all []record
	for _, coll := range s.collections {
		all = append(all, record{"uuid": coll["uuid"], "properties": coll["properties"]})
	}
	buf, err := json.MarshalIndent(all, "", " ")
	c.Assert(err, check.IsNil)
	return string(buf)
}

// refusal is an answer of the server.
func refusal(status int, text string) error {
	return &arvados.TransactionError{StatusCode: status, Status: strconv.Itoa(status) + " " + http.StatusText(status), Errors: []string{text}}
}

func (v *view) RequestAndDecodeContext(ctx context.Context, dst interface{}, method, path string, _ io.Reader, params interface{}) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v.mtx.Lock()
	defer v.mtx.Unlock()
	v.asked++
	if v.refuse != nil {
		if err := v.refuse(method, path); err != nil {
			return err
		}
	}
	kind, uuid, _ := strings.Cut(strings.TrimPrefix(path, "arvados/v1/"), "/")
	if method == http.MethodPatch && kind == "collections" {
		return v.write(uuid, params)
	}
	if method == http.MethodPost && kind == "links" {
		return v.writeLink(dst, params)
	}
	if method == http.MethodDelete && kind == "links" {
		return v.deleteLink(uuid)
	}
	if method != http.MethodGet || uuid != "" {
		return fmt.Errorf("unexpected request: %s %s", method, path)
	}
	list := params.(arvados.ResourceListParams)
	var found []record
	for _, rec := range map[string][]record{"collections": v.collections, "links": v.links, "groups": v.groups}[kind] {
		gone := rec["is_trashed"] == true || rec["current_version_uuid"] != nil && rec["current_version_uuid"] != rec["uuid"]
		hidden := v.readable != nil && !slices.Contains(v.readable, rec.text("owner_uuid"))
		if (!gone || list.IncludeTrash) && !hidden && rec.matches(list.Filters) {
			found = append(found, rec)
		}
	}
	slices.SortStableFunc(found, func(a, b record) int {
		for _, key := range strings.Split(list.Order, ",") {
			attr, desc := strings.CutSuffix(key, " desc")
			order := cmp.Compare(a.text(attr), b.text(attr))
			if desc {
				order = -order
			}
			if order != 0 {
				return order
			}
		}
		return cmp.Compare(b.text("uuid"), a.text("uuid"))
	})
	limit := *list.Limit
	if v.page > 0 {
		limit = min(limit, v.page)
	}
	found = found[min(list.Offset, len(found)):]
	found = found[:min(limit, len(found))]
	v.widest = max(v.widest, len(found))
	items := []record{}
	for _, rec := range found {
		item := record{}
		for _, attr := range list.Select {
			item[attr] = rec[attr]
		}
		items = append(items, item)
	}
	buf, err := json.Marshal(record{"items": items, "limit": limit})
	if err != nil {
		return err
	}
	return json.Unmarshal(buf, dst)
}

// write replaces properties.
func (v *view) write(uuid string, params interface{}) error {
	buf, err := json.Marshal(params)
	if err != nil {
		return err
	}
	var sent struct {
		Collection struct{ Properties json.RawMessage }
	}
	if err := json.Unmarshal(buf, &sent); err != nil {
		return err
	}
	properties, err := decode(sent.Collection.Properties)
	if err != nil {
		return err
	}
	if _, ok := properties["docker-image-hash"]; ok && v.strict {
		return refusal(400, `tag key "docker-image-hash" is not defined in the vocabulary`)
	}
	if v.before != nil {
		v.before(uuid)
	}
	v.get(uuid)["properties"], v.get(uuid)["modified_at"] = record(properties), v.tick()
	v.writes++
	v.written = append(v.written, uuid)
	return nil
}

// matches tells whether all filters hold, as API servers mean them.
func (r record) matches(filters []arvados.Filter) bool {
	for _, f := range filters {
		value, exists := r[f.Attr], true
		if key, ok := strings.CutPrefix(f.Attr, "properties."); ok {
			properties, _ := r["properties"].(record)
			value, exists = properties[key]
		}
		var text string
		switch t := value.(type) {
		case string:
			text = t
		case json.Number:
			text = t.String()
		}
		operand, _ := f.Operand.(string)
		holds := false
		switch f.Operator {
		case "exists":
			holds = exists == f.Operand
		case "=":
			holds = exists && reflect.DeepEqual(value, f.Operand)
		case ">":
			holds = value != nil && text > operand
		case ">=":
			holds = value != nil && text >= operand
		case "<":
			holds = value != nil && text < operand
		case "in":
			holds = slices.Contains(f.Operand.([]string), text)
		case "like":
			holds = strings.HasSuffix(text, strings.TrimPrefix(operand, "%"))
		case "contains":
			buf, _ := json.Marshal(value)
			var list []interface{}
			if json.Unmarshal(buf, &list) != nil {
				list = []interface{}{value}
			}
			holds = slices.Contains(list, f.Operand)
		case "ilike":
			// Patterns are "%", digits, any number of "_", ".tar%" or "%".
			digits := strings.Trim(strings.TrimSuffix(strings.Trim(operand, "%"), ".tar"), "_")
			buf, _ := json.Marshal(r["properties"])
			holds = strings.Contains(r.text("manifest_text")+string(buf), digits)
		}
		if !holds {
			return false
		}
	}
	return true
}

// closed is where a rollback file is that nobody adds to any more.
func closed(c *check.C, file *RollbackFile) string {
	c.Assert(file.Close(), check.IsNil)
	return file.file.Name()
}

// rollbackFile is a new one.
func rollbackFile(c *check.C) *RollbackFile {
	file, err := OpenRollback(filepath.Join(c.MkDir(), "rollback"))
	c.Assert(err, check.IsNil)
	return file
}
