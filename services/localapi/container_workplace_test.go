// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strings"

	"gopkg.in/check.v1"
)

// workSuite has a fresh server for each test, in which the dispatcher is root.
type workSuite struct{ apiSuite }

// workplace is the server for one test. Failures must be told to that test,
// and not to its set-up, which would forget them: so each test makes its own.
type workplace struct {
	c                       *check.C
	server                  *Server
	admin, alice, bob, root client
	aliceUUID, bobUUID      string
	images                  int    // that have been made
	image                   string // of request
}

func (s *workSuite) workplace(c *check.C) *workplace {
	w := &workplace{c: c, server: s.server}
	w.admin, w.alice, w.bob, w.root = w.as(admin), w.as(alice), w.as(bob), w.as(rootSecret)
	w.aliceUUID = textOf(w.get(w.alice, "users/current")["uuid"])
	w.bobUUID = textOf(w.get(w.bob, "users/current")["uuid"])
	return w
}

// Some manifests. Their blocks need not exist, since only admins save them.
const (
	outputText = ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:result.txt\n"
	logText    = ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:stderr.txt\n"
	moreLog    = ". 0cc175b9c0f1b6a831c399e269772661+1 0:1:stderr.txt\n"
	outputHash = "3dfbef5845cf9ab7cef51b8253100d81+52"
	logHash    = "8f82b78c1f239bf46e254f103a7e810d+52"
)

// as is a client with another token.
func (w *workplace) as(token string) client { return client{w.c, w.server, token} }

// get, post and patch must succeed.
func (w *workplace) get(who client, path string) Record { return who.must("GET", path, nil).body }

func (w *workplace) post(who client, path string, attrs Record) Record {
	return who.must("POST", path, attrs).body
}

func (w *workplace) patch(who client, path string, attrs Record) Record {
	return who.must("PATCH", path, attrs).body
}

// refused checks that a call fails, with a message of that pattern.
func (w *workplace) refused(status int, pattern string, who client, method, path string, attrs Record) {
	reply := who.do(method, path, attrs)
	w.c.Check(reply.status, check.Equals, status, check.Commentf("%s %s %v: %v", method, path, attrs, reply.body))
	w.c.Check(reply.errors(), check.Matches, `(?s).*`+pattern+`.*`)
}

// list is all records that a filter finds.
func (w *workplace) list(who client, path string, filters ...any) []Record {
	buf, err := json.Marshal(filters)
	w.c.Assert(err, check.IsNil)
	if !strings.Contains(path, "?") {
		path += "?"
	}
	reply := w.get(who, path+"&limit=1000&order=uuid&filters="+url.QueryEscape(string(buf)))
	var found []Record
	for _, item := range reply["items"].([]any) {
		found = append(found, item.(map[string]any))
	}
	return found
}

// collection saves one, by an admin since its blocks do not exist, for the
// user of the token.
func (w *workplace) collection(who client, manifest string, attrs Record) Record {
	all := Record{"manifest_text": manifest, "owner_uuid": w.get(who, "users/current")["uuid"]}
	maps.Copy(all, attrs)
	return w.post(w.admin, "collections", all)
}

// newImage saves an image, unlike all others, for a user.
func (w *workplace) newImage(who client, attrs Record) Record {
	w.images++
	file := fmt.Sprintf(`sha256\072%064x.tar`, w.images)
	return w.collection(who, ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:"+file+"\n", attrs)
}

// sharedProject is a new project that everybody can read.
func (w *workplace) sharedProject() any {
	project := w.post(w.root, "groups", Record{"group": Record{"group_class": "project", "name": "shared"}, "ensure_unique_name": true})
	w.post(w.root, "links", Record{"link_class": "permission", "name": "can_read",
		"tail_uuid": allUsersGroup(cluster), "head_uuid": project["uuid"]})
	return project["uuid"]
}

// request is a plain container request, with some attributes in its place.
func (w *workplace) request(attrs Record) Record {
	if w.image == "" {
		project := w.sharedProject()
		w.image = textOf(w.newImage(w.root, Record{"owner_uuid": project})["portable_data_hash"])
	}
	all := Record{
		"state": "Committed", "priority": 500, "container_image": w.image, "command": []string{"echo", "hi"},
		"output_path": "/out", "cwd": "/out", "mounts": Record{"/out": Record{"kind": "tmp", "capacity": 1000000}},
		"runtime_constraints": Record{"vcpus": 1, "ram": 1000000, "API": true}, "use_existing": false,
	}
	maps.Copy(all, attrs)
	return all
}

// submit commits a request and returns it.
func (w *workplace) submit(who client, attrs Record) Record {
	return w.post(who, "container_requests", w.request(attrs))
}

// reload reads a container request or container as root.
func (w *workplace) reload(rec Record) Record {
	uuid := textOf(rec["uuid"])
	return w.get(w.root, kindOf(uuid).plural+"/"+uuid)
}

func (w *workplace) containerOf(request Record) Record {
	return w.get(w.root, "containers/"+textOf(w.reload(request)["container_uuid"]))
}

// lock locks a container and returns a client with its token.
func (w *workplace) lock(container Record) client {
	path := "containers/" + textOf(container["uuid"])
	w.post(w.root, path+"/lock", nil)
	auth := w.get(w.root, path+"/auth")
	return w.as(fmt.Sprintf("v2/%s/%s/%s", auth["uuid"], auth["api_token"], container["uuid"]))
}

// start runs a container and returns a client with its token.
func (w *workplace) start(container Record) client {
	itself := w.lock(container)
	w.set(container, Record{"state": "Running"})
	return itself
}

// set changes a container as its dispatcher.
func (w *workplace) set(container, attrs Record) Record {
	return w.patch(w.root, "containers/"+textOf(container["uuid"]), attrs)
}

// finish runs a request to its end: Complete with output, log and exit code 0,
// but for other attributes. It returns the request then.
func (w *workplace) finish(request, attrs Record) Record {
	container := w.containerOf(request)
	if container["state"] == "Queued" {
		w.start(container)
	}
	w.collection(w.root, outputText, nil)
	w.collection(w.root, logText, nil)
	final := Record{"state": "Complete", "exit_code": 0, "output": outputHash, "log": logHash}
	maps.Copy(final, attrs)
	w.set(container, final)
	return w.reload(request)
}

// databaseHas looks for a text in the records as they are stored.
func (w *workplace) databaseHas(text string) bool {
	for name := range kinds {
		if w.tableHas(name, text) {
			return true
		}
	}
	return false
}

func (w *workplace) tableHas(name, text string) bool {
	n := 0
	w.c.Assert(w.server.store.View(context.Background(), func(tx *Tx) error {
		return tx.sql.QueryRow("SELECT count(*) FROM "+name+" WHERE instr(doc, ?)", text).Scan(&n)
	}), check.IsNil)
	return n > 0
}
