// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
	"gopkg.in/check.v1"
)

// ending is how a container ended, and what is left of it.
type ending struct {
	cr       arvados.ContainerRequest
	ctr      arvados.Container
	exit     interface{} // exit_code, nil while there is none
	problem  string      // runtime_status.error
	logs     map[string]string
	output   *arvados.Collection // of the request
	runError error
	at       time.Time // when crunch-run was gone
}

// String is the ending in one line.
func (e ending) String() string {
	log := "no log"
	if text := e.logs["crunch-run.txt"]; text != "" {
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		_, last, _ := strings.Cut(lines[len(lines)-1], "Z ")
		log = fmt.Sprintf("log of %d lines to %q", len(lines), last)
	}
	return fmt.Sprintf("container %s, request %s, exit code %v, output %q, %s, runtime_status.error %q; crunch-run: %v",
		e.ctr.State, e.cr.State, e.exit, e.ctr.Output, log, e.problem, e.runError)
}

// why is what somebody wants to know who did not expect this ending: the reason, and
// then the last lines of the logs.
func (e ending) why() string {
	text := fmt.Sprintf("%s\n%v", e.problem, e)
	for _, name := range []string{"crunch-run.txt", "stdout.txt"} {
		lines := strings.Split(strings.TrimSuffix(e.logs[name], "\n"), "\n")
		text += fmt.Sprintf("\n%s:\n%s", name, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
	return text
}

// look reads how a request's container ended.
func (s *stage) look(c *check.C, cr arvados.ContainerRequest) (e ending) {
	s.mtx.Lock()
	s.script = nil
	s.mtx.Unlock()
	var record map[string]interface{}
	path := "arvados/v1/containers/" + cr.ContainerUUID
	c.Assert(s.root.RequestAndDecode(&record, "GET", path, nil, nil), check.IsNil)
	c.Assert(s.root.RequestAndDecode(&e.ctr, "GET", path, nil, nil), check.IsNil)
	c.Assert(s.user.RequestAndDecode(&e.cr, "GET", "arvados/v1/container_requests/"+cr.UUID, nil, nil), check.IsNil)
	e.exit = record["exit_code"]
	e.problem, _ = e.ctr.RuntimeStatus["error"].(string)
	if e.cr.OutputUUID != "" {
		e.output = s.collection(c, e.cr.OutputUUID)
	}
	e.logs = map[string]string{}
	if e.cr.LogUUID != "" {
		e.logs = s.files(c, s.collection(c, e.cr.LogUUID).ManifestText)
	}
	s.checkNothingSecret(c, record, e)
	return e
}

func (s *stage) collection(c *check.C, uuid string) *arvados.Collection {
	var coll arvados.Collection
	c.Assert(s.user.RequestAndDecode(&coll, "GET", "arvados/v1/collections/"+uuid, nil, nil), check.IsNil)
	return &coll
}

// keep is Keep as the ordinary user sees it.
func (s *stage) keep(c *check.C) *keepclient.KeepClient {
	arv, err := arvadosclient.New(s.user)
	c.Assert(err, check.IsNil)
	kc, err := keepclient.MakeKeepClient(arv)
	c.Assert(err, check.IsNil)
	return kc
}

// files are a small collection's files with their contents.
func (s *stage) files(c *check.C, manifest string) map[string]string {
	list, err := keepfile.ParseManifest(manifest)
	c.Assert(err, check.IsNil)
	contents := map[string]string{}
	kc := s.keep(c)
	for _, file := range list {
		r := keepfile.NewReader(context.Background(), kc, file)
		text, err := io.ReadAll(r)
		c.Assert(err, check.IsNil)
		r.Close()
		contents[file.Path] = string(text)
	}
	return contents
}

// secretWord is the password in every test that has one.
const secretWord = "a-password-that-nobody-may-see"

var logLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z [^\r]*$`)

// checkNothingSecret looks for the password and tokens in everything that
// stays, and holds the logs to crunch-run's format. A password in the command is
// on record, and nowhere else.
func (s *stage) checkNothingSecret(c *check.C, record map[string]interface{}, e ending) {
	text, err := json.Marshal([]interface{}{record, e.cr, e.output})
	c.Assert(err, check.IsNil)
	all := map[string]string{"records": string(text)}
	for name, content := range e.logs {
		all[name] = content
	}
	told := strings.Contains(strings.Join(e.cr.Command, " "), secretWord)
	for name, content := range all {
		isRecord := name == "records" || strings.HasSuffix(name, "container.json")
		for _, secret := range []string{s.SystemRootToken, secretWord} {
			c.Check(strings.Contains(content, secret), check.Equals, told && isRecord && secret == secretWord, check.Commentf("secret in %s", name))
		}
		if !strings.HasSuffix(name, ".txt") || strings.Contains(name, "/") {
			continue
		}
		for _, line := range strings.Split(strings.TrimSuffix(content, "\n"), "\n") {
			c.Check(line == "" || logLine.MatchString(line), check.Equals, true, check.Commentf("%s: %q", name, line))
		}
	}
}

// visible are the collections of the user that are not in the trash, without
// logs.
func (s *stage) visible(c *check.C) (names []string) {
	var list arvados.CollectionList
	c.Assert(s.user.RequestAndDecode(&list, "GET", "arvados/v1/collections", nil, attrs{"limit": 1000}), check.IsNil)
	for _, coll := range list.Items {
		if coll.Properties["type"] != "log" && coll.Name != "empty collection" {
			names = append(names, coll.Name)
		}
	}
	return names
}
