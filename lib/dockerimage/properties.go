// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Keys of the properties. The plain ones are those that Arvados itself is to
// look at. A strict vocabulary may refuse those of the hash and the time, but not that
// of names. They are written with the prefix "arv:" then, which it lets pass; so
// readers take either.
const (
	KeyHash      = "docker-image-hash"
	KeyRepoTag   = "docker-image-repo-tag"
	KeyTimestamp = "docker-image-timestamp"

	KeyMarker   = "arv:docker-image"
	KeyDigest   = "arv:docker-image-digest"
	KeyPlatform = "arv:docker-image-platform"
	KeyLayers   = "arv:docker-image-layers"
	KeySize     = "arv:docker-image-size"
	KeyTagged   = "arv:docker-image-tagged"
	KeyPDH      = "arv:docker-image-pdh"
	keyBase     = "arv:docker-image-base"
	keyKey      = "arv:docker-image-key"

	Twin = "arv:" // that prefix
)

// Classes of links that say the same, and the property of theirs that has the
// time.
const (
	LinkHash = "docker_image_hash"
	LinkName = "docker_image_repo+tag"
	LinkTime = "image_timestamp"
)

// Properties describe an image collection. What is at its zero value is not
// known and not written: collections made by other programs have few of them.
type Properties struct {
	Hash      string    // "sha256:<64 hex>", the file's name without .tar
	RepoTags  []string  // names, "alpine:3.22"
	Timestamp time.Time // "created" of the image's config
	Digests   []string  // of index and manifest; where Hash is not that of the config, both of these, too
	Platform  string    // "linux/arm64/v8"
	Layers    []string  // digests of the layers that have blocks of their own
	Size      int64     // of all layers unpacked, in bytes
	Tagged    time.Time // when the image got its names
	PDH       string    // portable data hash of the collection when it was made
	Bases     []Base    // images that it was built upon
	Key       string    // content key of the build that made it, 64 hex digits
}

// Base is an image that another was built upon.
type Base struct {
	Name string // as the recipe has it
	Hash string // digest of its config
	PDH  string // of the collection it came from, "" if it came from a registry
}

// ImageID says what the image's file is named by. What programs have stored that say
// nothing of digests counts as named by the config.
func (p Properties) ImageID() ImageID {
	if slices.Contains(p.Digests, p.Hash) {
		return ByManifest
	}
	return ByConfig
}

// Map is the properties as the API server takes them.
func (p Properties) Map() map[string]interface{} {
	m := map[string]interface{}{KeyMarker: "1"}
	setString := func(key, value string) {
		if value != "" {
			m[key] = value
		}
	}
	setTime := func(key string, t time.Time) {
		if !t.IsZero() {
			m[key] = t.UTC().Format(time.RFC3339Nano)
		}
	}
	setList := func(key string, values []string) {
		if len(values) > 0 {
			m[key] = values
		}
	}
	setString(KeyHash, p.Hash)
	if len(p.RepoTags) == 1 {
		setString(KeyRepoTag, p.RepoTags[0])
	} else {
		setList(KeyRepoTag, p.RepoTags)
	}
	setTime(KeyTimestamp, p.Timestamp)
	setList(KeyDigest, p.Digests)
	setString(KeyPlatform, p.Platform)
	setList(KeyLayers, p.Layers)
	if p.Size > 0 {
		m[KeySize] = p.Size
	}
	setTime(KeyTagged, p.Tagged)
	setString(KeyPDH, p.PDH)
	// A flat list, so that a filter can ask which images contain a hash.
	var bases []string
	for _, base := range p.Bases {
		bases = append(bases, base.Name, base.Hash)
		if base.PDH != "" {
			bases = append(bases, base.PDH)
		}
	}
	setList(keyBase, bases)
	setString(keyKey, p.Key)
	return m
}

// ParseProperties reads the properties of any collection. Where a list is
// expected it takes a single value, and the other way round; null, values of
// other types and times that are none count as missing.
func ParseProperties(m map[string]interface{}) Properties {
	plain := func(key string) interface{} {
		if v := m[key]; v != nil {
			return v
		}
		return m[Twin+key]
	}
	return Properties{
		Hash:      first(plain(KeyHash)),
		RepoTags:  list(m[KeyRepoTag]),
		Timestamp: timeOf(plain(KeyTimestamp)),
		Digests:   list(m[KeyDigest]),
		Platform:  first(m[KeyPlatform]),
		Layers:    list(m[KeyLayers]),
		Size:      bytesOf(m[KeySize]),
		Tagged:    timeOf(m[KeyTagged]),
		PDH:       first(m[KeyPDH]),
		Bases:     basesOf(list(m[keyBase])),
		Key:       first(m[keyKey]),
	}
}

var pdhPattern = regexp.MustCompile(`^[0-9a-f]{32}\+\d+$`)

// basesOf takes the flat list apart: a name, a hash and perhaps a portable data
// hash, again and again.
func basesOf(values []string) (bases []Base) {
	for _, value := range values {
		last := len(bases) - 1
		switch {
		case last >= 0 && bases[last].Hash == "":
			bases[last].Hash = value
		case last >= 0 && bases[last].PDH == "" && pdhPattern.MatchString(value):
			bases[last].PDH = value
		default:
			bases = append(bases, Base{Name: value})
		}
	}
	return bases
}

// Links are the links by which API servers look for images that do not look at
// properties. Owner and head are the caller's to fill in.
func (p Properties) Links() []arvados.Link {
	properties := map[string]interface{}{}
	if !p.Timestamp.IsZero() {
		properties[LinkTime] = p.Timestamp.UTC().Format(time.RFC3339Nano)
	}
	var links []arvados.Link
	if p.Hash != "" {
		links = append(links, arvados.Link{LinkClass: LinkHash, Name: p.Hash, Properties: properties})
	}
	for _, tag := range p.RepoTags {
		links = append(links, arvados.Link{LinkClass: LinkName, Name: tag, Properties: properties})
	}
	return links
}

func list(v interface{}) []string {
	switch v := v.(type) {
	case []string:
		return v
	case []interface{}:
		var values []string
		for _, item := range v {
			values = append(values, list(item)...)
		}
		return values
	case string:
		if v != "" {
			return []string{v}
		}
	}
	return nil
}

func first(v interface{}) string {
	if values := list(v); len(values) > 0 {
		return values[0]
	}
	return ""
}

func timeOf(v interface{}) time.Time {
	t, _ := parseTime(first(v))
	return t
}

// parseTime reads a time as configs and properties have it. The year 1 is what
// Go programs write for a time that they do not know.
func parseTime(text string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() <= 1 {
		return time.Time{}, false
	}
	return t.UTC(), true
}

func bytesOf(v interface{}) int64 {
	var n int64
	switch v := v.(type) {
	case int64:
		n = v
	case float64:
		if v < math.MaxInt64 {
			n = int64(v)
		}
	case json.Number:
		n, _ = v.Int64()
	case string:
		n, _ = strconv.ParseInt(v, 10, 64)
	}
	return max(n, 0)
}
