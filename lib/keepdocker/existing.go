// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// resolve finds the image that the user means.
func (s *session) resolve(ctx context.Context, name string) (dockerimage.Found, error) {
	policy := dockerimage.Policy{Links: true, Own: []string{s.user.UUID, s.owner}}
	if s.user.IsAdmin { // who can read everybody's
		policy.Trust = dockerimage.TrustSite
	}
	found, err := dockerimage.Resolve(ctx, s.API, name, policy)
	for _, passed := range found.PassedOver {
		s.say("collection %s is passed over: %v", passed.Found.UUID, passed.Reason)
	}
	return found.Found, err
}

// findHash finds an unchanged image by its id on an engine, of the owner if there
// is one, else of anybody; nil if there is none whose file has the right name.
func (s *session) findHash(ctx context.Context, id string, isRight func(hash string, p dockerimage.Properties) bool) (*dockerimage.Found, error) {
	for _, policy := range []dockerimage.Policy{
		{Links: true, Trust: dockerimage.TrustOwn, Own: []string{s.owner}},
		{Links: true},
	} {
		found, err := dockerimage.Resolve(ctx, s.API, id, policy)
		if errors.Is(err, dockerimage.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		hash, err := found.Hash()
		if err != nil {
			return nil, err // Resolve finds nothing like that
		}
		if isRight(hash, found.Properties) {
			return &found.Found, nil
		}
	}
	return nil, nil
}

// anyHash is for those who want the image whatever it is named by.
func anyHash(string, dockerimage.Properties) bool { return true }

// adopt makes an image that is in Arvados one of the owner, with the names. What
// the owner has stays as it is but for names and what it lacks.
func (s *session) adopt(ctx context.Context, found dockerimage.Found, n names) (string, error) {
	if found.OwnerUUID == s.owner {
		return s.giveNames(ctx, found, n)
	}
	s.say("the image is that of collection %s, which belongs to %s", found.UUID, found.OwnerUUID)
	coll, hash, err := s.completed(ctx, found)
	if err != nil {
		return "", err
	}
	properties, _ := dockerimage.WithNames(coll.Properties, n.repoTags, time.Now())
	return s.createCollection(ctx, hash, coll.ManifestText, properties, n)
}

// giveNames gives names to an image collection that is there.
func (s *session) giveNames(ctx context.Context, found dockerimage.Found, n names) (string, error) {
	coll, _, err := s.completed(ctx, found)
	if err != nil {
		return "", err
	}
	properties, changed := dockerimage.WithNames(coll.Properties, n.repoTags, time.Now())
	if changed {
		if coll, err = s.write(ctx, http.MethodPut, "collections/"+coll.UUID, properties, attrs{}); err != nil {
			return "", err
		}
	}
	return coll.UUID, s.writeLinks(ctx, coll, n)
}

// completed is the collection of an image, and its hash. Its properties have what
// older programs do not write, as far as that can be known without reading the
// image.
func (s *session) completed(ctx context.Context, found dockerimage.Found) (coll arvados.Collection, hash string, err error) {
	if hash, err = found.Hash(); err != nil {
		return coll, "", wrong("collection "+found.UUID, err, "")
	}
	if found, err = s.timed(ctx, found, hash); err != nil {
		return coll, hash, err
	}
	if err := s.call(ctx, &coll, http.MethodGet, "collections/"+found.UUID, nil); err != nil {
		return coll, hash, err
	}
	all := dockerimage.Properties{Hash: hash, Timestamp: found.Properties.Timestamp, PDH: found.PDH}.Map()
	for key, value := range coll.Properties {
		if value == nil { // the Python tool writes null for no name
			continue
		}
		all[key] = value
		// The same under another key, where the vocabulary is strict.
		twin, ok := strings.CutPrefix(key, "arv:")
		if _, plain := coll.Properties[twin]; ok && !plain {
			delete(all, twin)
		}
	}
	coll.Properties = all
	return coll, hash, nil
}

// tagExistingImage gives an image in Arvados one more name. No engine is asked.
func (s *session) tagExistingImage(ctx context.Context, args []string) (string, error) {
	n, err := parseName(args)
	if err != nil {
		return "", err
	}
	found, err := s.existing(ctx, s.tagExisting)
	if err != nil {
		return "", err
	}
	if s.project != "" {
		return s.adopt(ctx, found, n)
	}
	return s.giveNames(ctx, found, n)
}

// existing is the image that --tag-existing names. Of several with one content it
// is the owner's, who can write to it.
func (s *session) existing(ctx context.Context, image string) (dockerimage.Found, error) {
	var filters []arvados.Filter
	switch {
	case arvados.UUIDMatch(image):
		filters = []arvados.Filter{{Attr: "uuid", Operator: "=", Operand: image}}
	case arvados.PDHMatch(image):
		filters = []arvados.Filter{
			{Attr: "portable_data_hash", Operator: "=", Operand: image},
			{Attr: "owner_uuid", Operator: "=", Operand: s.owner},
		}
	default:
		return s.resolve(ctx, image)
	}
	limit := 1
	var list arvados.CollectionList
	err := s.call(ctx, &list, http.MethodGet, "collections", arvados.ResourceListParams{
		Filters: filters,
		Select:  []string{"uuid", "owner_uuid", "portable_data_hash", "created_at", "manifest_text", "properties"},
		Order:   "created_at desc",
		Limit:   &limit,
		Count:   "none",
	})
	switch {
	case err != nil:
		return dockerimage.Found{}, err
	case len(list.Items) == 0 && arvados.PDHMatch(image):
		return s.resolve(ctx, image)
	case len(list.Items) == 0:
		return dockerimage.Found{}, wrong("--tag-existing", fmt.Errorf("there is no collection %s that you can read", image), hintList)
	}
	found := dockerimage.FoundIn(list.Items[0])
	if err := found.Check(); err != nil {
		return found, wrong("--tag-existing", fmt.Errorf("collection %s cannot pass as an image: %w", found.UUID, err), hintList)
	}
	return found, nil
}

const hintList = "name an image in Arvados; arv-keepdocker without arguments lists them"

// timed is found with the time of the image where only links tell it.
func (s *session) timed(ctx context.Context, found dockerimage.Found, hash string) (dockerimage.Found, error) {
	if !found.Properties.Timestamp.IsZero() {
		return found, nil
	}
	same, err := s.findHash(ctx, hash, anyHash)
	if same != nil {
		found.Properties.Timestamp = same.Properties.Timestamp
	}
	return found, err
}
