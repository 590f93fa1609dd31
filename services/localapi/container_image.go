// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/services/localapi/containerrules"
)

var (
	keepLocator = regexp.MustCompile(`^[0-9a-f]{32}(\+[0-9]+)?(\+[A-Z][-A-Za-z0-9@_]*)*$`)
	imageHash   = regexp.MustCompile(`^sha256:[0-9a-f]+$`)
)

// resolveImage is the portable data hash of the newest image of that name that
// the user can read. Images are found by the properties of their collections
// and by links, in one list. Names are portable data hashes, repo:tag, or
// sha256:<beginning of the image's hash>.
func resolveImage(tx *Tx, user *Caller, name string) (string, error) {
	notFound := refuseBy(containerrules.Unresolvable(fmt.Sprintf("docker image %q not found", name)))
	if keepLocator.MatchString(name) {
		hash := strings.Join(strings.SplitN(name, "+", 3)[:min(2, strings.Count(name, "+")+1)], "+")
		found, err := tx.List(collections, Query{
			Filters: []Filter{Where("portable_data_hash", "=", hash)}, Reader: user, Limit: 1, Whole: true,
		})
		if err != nil {
			return "", err
		}
		if len(found) == 0 || !isImage(found[0]) {
			return "", notFound
		}
		return hash, nil
	}
	images := imageList{}
	if err := images.find(tx, user, name); err != nil {
		return "", err
	}
	if len(images) == 0 {
		return "", notFound
	}
	best := images.newest()
	if best == nil {
		return "", refuseBy(containerrules.Unresolvable("Matching Docker image is incompatible with 'docker_image_formats' configuration."))
	}
	return best["portable_data_hash"].(string), nil
}

// imageList are collections that a name was given to, by UUID, with the time
// of a link that says so, if one does.
type imageList map[string]image

type image struct {
	collection Record
	linkTime   string
}

// find fills the list.
func (l imageList) find(tx *Tx, user *Caller, name string) error {
	property, linkClass, op, value := "docker-image-repo-tag", "docker_image_repo+tag", "=", repoTag(name)
	if imageHash.MatchString(name) {
		property, linkClass, op, value = "docker-image-hash", "docker_image_hash", "like", name+"%"
	}
	propertyOp := op
	if op == "=" {
		propertyOp = "contains" // several names may be in a list
	}
	found, err := tx.List(collections, Query{
		Filters: []Filter{Where("properties."+property, propertyOp, value)}, Reader: user, Whole: true,
	})
	if err != nil {
		return err
	}
	for _, collection := range found {
		l[collection["uuid"].(string)] = image{collection: collection}
	}
	named, err := tx.List(links, Query{
		Filters: []Filter{Where("link_class", "=", linkClass), Where("name", op, value)}, Reader: user,
	})
	if err != nil {
		return err
	}
	for _, link := range named {
		head, err := tx.List(collections, Query{
			Filters: []Filter{Where("uuid", "=", link["head_uuid"])}, Reader: user, Whole: true,
		})
		if err != nil {
			return err
		}
		properties, _ := link["properties"].(map[string]any)
		moment, _ := properties["image_timestamp"].(string)
		for _, collection := range head {
			uuid := collection["uuid"].(string)
			l[uuid] = image{collection: collection, linkTime: max(l[uuid].linkTime, moment)}
		}
	}
	return nil
}

// newest is the image made last, nil if none of the collections is an image.
func (l imageList) newest() Record {
	var images []image
	for _, i := range l {
		if isImage(i.collection) {
			images = append(images, i)
		}
	}
	if len(images) == 0 {
		return nil
	}
	return slices.MaxFunc(images, func(a, b image) int {
		return cmp.Or(cmp.Compare(a.made(), b.made()),
			cmp.Compare(a.collection["created_at"].(string), b.collection["created_at"].(string)),
			cmp.Compare(a.collection["uuid"].(string), b.collection["uuid"].(string)))
	}).collection
}

// made is when the image was made, as far as that can be believed: not after
// its collection, and not at the dates that reproducible builds pretend.
func (i image) made() string {
	created := i.collection["created_at"].(string)
	properties, _ := i.collection["properties"].(map[string]any)
	said, _ := properties["docker-image-timestamp"].(string)
	moment, err := parseTime(cmp.Or(said, i.linkTime))
	if err != nil || moment < "1981" {
		return created
	}
	return min(moment, created)
}

// isImage leaves out collections that were copied from an image and changed.
func isImage(collection Record) bool {
	properties, _ := collection["properties"].(map[string]any)
	if made := properties["arv:docker-image-pdh"]; made != nil && made != collection["portable_data_hash"] {
		return false
	}
	manifest, _ := collection["manifest_text"].(string)
	return containerrules.IsImage(manifest)
}

// repoTag is a name as images are registered under it.
func repoTag(name string) string {
	ref, err := imageref.Parse(name)
	if err == nil && ref.Tag != "" {
		return ref.RepoTag()
	}
	if err != nil && !strings.Contains(name, ":") {
		return name + ":latest" // something that docker would not call an image may be registered as one
	}
	return name
}
