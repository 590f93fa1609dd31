// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

func Test(t *testing.T) {
	defer goleak.VerifyNone(t)
	check.TestingT(t)
}

const MiB = 1 << 20

// fixture is an empty cluster for each test.
type fixture struct {
	ctx context.Context
	cl  *cluster
}

func (f *fixture) SetUpTest(*check.C) {
	f.ctx, f.cl = context.Background(), newCluster()
}

func (f *fixture) save(c *check.C, blocks int, img imagetar.Image) *Saved {
	saved, err := f.cl.saver(blocks).Save(f.ctx, img)
	c.Assert(err, check.IsNil)
	return saved
}

// Owners of collections.
const (
	alice = "zzzzz-tpzed-alice0000000000"
	bob   = "zzzzz-tpzed-bob000000000000"
)

// cluster is an API server and Keep, in memory, used with alice's token.
type cluster struct {
	keep        *keeptest.Keep
	collections []arvados.Collection // oldest first, manifests not signed
	links       []arvados.Link       // likewise
	fail        error                // what every request answers with
	mtx         sync.Mutex
	requests    []string // operands of the filters
	asked       int      // how many requests there were
	sent        int      // bytes of the answers
	log         bytes.Buffer
}

func newCluster() *cluster { return &cluster{keep: keeptest.New()} }

func (cl *cluster) client() *keeptest.Client { return cl.keep.As("alices-token") }

// saver is one that may use blocks buffers and finds what there is.
func (cl *cluster) saver(blocks int) *Saver {
	log := logrus.New()
	log.SetOutput(&cl.log)
	log.SetLevel(logrus.DebugLevel)
	return &Saver{API: cl, Keep: cl.client(), Blocks: blocks, Log: log}
}

// add makes a collection and returns its UUID.
func (cl *cluster) add(owner, manifest string, props map[string]interface{}) string {
	uuid := fmt.Sprintf("zzzzz-4zz18-%015d", len(cl.collections))
	unsigned := cl.keep.Sign(manifest, "")
	cl.collections = append(cl.collections, arvados.Collection{
		UUID:             uuid,
		OwnerUUID:        owner,
		PortableDataHash: arvados.PortableDataHash(unsigned),
		CreatedAt:        time.Date(2026, 6, 1, 0, 0, len(cl.collections), 0, time.UTC),
		ManifestText:     unsigned,
		Properties:       props,
	})
	return uuid
}

func (cl *cluster) addImage(owner string, saved *Saved) string {
	return cl.add(owner, saved.ManifestText, saved.Properties(nil, time.Time{}).Map())
}

// RequestAndDecodeContext lists collections, newest first or by UUID, or links.
func (cl *cluster) RequestAndDecodeContext(ctx context.Context, dst interface{}, method, path string, _ io.Reader, params interface{}) error {
	if cl.fail != nil {
		return cl.fail
	}
	list := params.(arvados.ResourceListParams)
	cl.mtx.Lock()
	defer cl.mtx.Unlock()
	cl.asked++
	for _, f := range list.Filters {
		cl.requests = append(cl.requests, fmt.Sprint(f.Operand))
	}
	var answer any
	switch method + " " + path {
	case "GET arvados/v1/collections":
		items := newest(list, cl.collections, func(coll arvados.Collection) (time.Time, string, bool) {
			return coll.CreatedAt, coll.UUID, matches(coll, list.Filters)
		})
		for i := range items {
			if items[i].ManifestText = cl.keep.Sign(items[i].ManifestText, "alices-token"); !slices.Contains(list.Select, "manifest_text") {
				items[i].ManifestText = ""
			}
		}
		answer = arvados.CollectionList{Items: items}
	case "GET arvados/v1/links":
		answer = arvados.LinkList{Items: newest(list, cl.links, func(link arvados.Link) (time.Time, string, bool) {
			return link.CreatedAt, link.UUID, linkMatches(link, list.Filters)
		})}
	default:
		return fmt.Errorf("unexpected request: %s %s", method, path)
	}
	buf, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	cl.sent += len(buf)
	return json.Unmarshal(buf, dst)
}

// newest is a page of the records that match.
func newest[T any](list arvados.ResourceListParams, all []T, look func(T) (created time.Time, uuid string, matches bool)) []T {
	type match struct {
		record  T
		created time.Time
		uuid    string
	}
	var found []match
	for _, record := range all {
		if created, uuid, ok := look(record); ok {
			found = append(found, match{record, created, uuid})
		}
	}
	slices.Reverse(found)
	slices.SortStableFunc(found, func(a, b match) int {
		if list.Order == "uuid" {
			return strings.Compare(a.uuid, b.uuid)
		}
		return b.created.Compare(a.created)
	})
	found = found[min(list.Offset, len(found)):]
	var records []T
	for _, m := range found[:min(*list.Limit, len(found))] {
		records = append(records, m.record)
	}
	return records
}

func matches(coll arvados.Collection, filters []arvados.Filter) bool {
	for _, f := range filters {
		values := map[string][]string{
			"owner_uuid": {coll.OwnerUUID}, "uuid": {coll.UUID}, "portable_data_hash": {coll.PortableDataHash},
			"any": {coll.ManifestText + fmt.Sprint(coll.Properties)},
		}[f.Attr]
		key, ok := strings.CutPrefix(f.Attr, "properties.")
		if ok {
			values = list(coll.Properties[key])
			if coll.Properties[key] == "" {
				values = []string{""}
			}
		}
		value, exists := coll.Properties[key]
		switch {
		case f.Operator == "exists":
			if exists != f.Operand {
				return false
			}
			continue
		case f.Operand == nil:
			if !exists || value != nil {
				return false
			}
			continue
		}
		if !holds(f, values) {
			return false
		}
	}
	return true
}

func linkMatches(link arvados.Link, filters []arvados.Filter) bool {
	for _, f := range filters {
		if !holds(f, []string{map[string]string{"owner_uuid": link.OwnerUUID, "link_class": link.LinkClass, "name": link.Name}[f.Attr]}) {
			return false
		}
	}
	return true
}

// holds reports whether a filter holds for one of the values.
func holds(f arvados.Filter, values []string) bool {
	return slices.ContainsFunc(values, func(v string) bool {
		switch f.Operator {
		case "contains", "=":
			return v == f.Operand
		case "<":
			return v < f.Operand.(string)
		case ">=":
			return v >= f.Operand.(string)
		case "in":
			return slices.Contains(f.Operand.([]string), v)
		case "like", "ilike":
			return regexp.MustCompile(`(?is)^` + strings.NewReplacer("%", ".*", "_", ".").Replace(regexp.QuoteMeta(f.Operand.(string))) + `$`).MatchString(v)
		}
		panic(f.Operator)
	})
}

// contentOf is the file that a manifest describes.
func (cl *cluster) contentOf(c *check.C, manifest string) []byte {
	files, err := keepfile.ParseManifest(manifest)
	c.Assert(err, check.IsNil)
	c.Assert(files, check.HasLen, 1)
	r := keepfile.NewReader(context.Background(), cl.client(), files[0])
	defer r.Close()
	content, err := io.ReadAll(r)
	c.Assert(err, check.IsNil)
	return content
}

// archiveOf is the archive of an image whose layers need no unpacking.
func archiveOf(c *check.C, img imagetar.Image) []byte {
	layout, err := imagetar.NewLayout(img)
	c.Assert(err, check.IsNil)
	r := layout.Reader(context.Background(), img.Layers)
	defer r.Close()
	content, err := io.ReadAll(r)
	c.Assert(err, check.IsNil)
	return content
}

// blockNames are the locators of a manifest without hints, in order.
func blockNames(c *check.C, manifest string) []string {
	files, err := keepfile.ParseManifest(manifest)
	c.Assert(err, check.IsNil)
	names := []string{}
	for _, s := range files[0].Segments {
		names = append(names, strings.Join(strings.Split(s.Locator, "+")[:2], "+"))
	}
	return names
}

// valid checks that a saved image is in order, and canonical.
func (cl *cluster) valid(c *check.C, saved *Saved) {
	report, err := Validate(context.Background(), cl.client(), saved.ManifestText, saved.Properties(nil, time.Time{}))
	c.Assert(err, check.IsNil)
	c.Check(report.Problems, check.HasLen, 0)
	c.Check(report.Canonical, check.Equals, true)
	c.Check(report.PDH, check.Equals, saved.PDH)
	c.Check(report.ConfigDigest, check.Equals, saved.ConfigDigest)
	c.Check(report.Platform, check.Equals, saved.Platform)
}

// forbid makes the layers impossible to download.
func forbid(img imagetar.Image, layers ...int) imagetar.Image {
	img.Layers = append([]imagetar.Layer(nil), img.Layers...)
	for _, i := range layers {
		img.Layers[i].Open = func(context.Context) (io.ReadCloser, error) {
			return nil, errors.New("this layer must not be downloaded")
		}
	}
	return img
}
