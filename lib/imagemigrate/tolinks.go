// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"maps"
	"net/http"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// ToLinks is the way back, for whatever looks at links only: image collections get
// the links that their properties imply and that are missing. It removes none.
type ToLinks struct {
	API      dockerimage.API // as an administrator, who can read everything
	DryRun   bool
	Parallel int      // collections at a time; 0 means 4
	Rate     float64  // links a second at most; 0 for no limit
	Start    Position // as for a Migration
	Passed   func(Position) error
	Report   func(Row) error
}

// WayToLinks is Position.Way of ToLinks.
const WayToLinks = "to-links"

// NewLink is a link that was written, or would be.
type NewLink struct {
	UUID  string `json:"uuid,omitempty"`
	Class string `json:"class"`
	Name  string `json:"name"`
}

// imageKeys tell that a collection is an image: the marker of programs that go by
// properties, and what others write of themselves.
var imageKeys = []string{dockerimage.KeyMarker, keyNames, keyHash}

// imagesBy are filters for images that have the key of that number and none before.
func imagesBy(number int) []arvados.Filter {
	var filters []arvados.Filter
	for i, key := range imageKeys[:number+1] {
		filters = append(filters, arvados.Filter{Attr: "properties." + key, Operator: "exists", Operand: i == number})
	}
	return filters
}

// Run goes through all image collections. It ends with an error in the cases in
// which a Migration does. Report is told of each collection as soon as its links are
// made, in no order.
func (t *ToLinks) Run(ctx context.Context) (Summary, error) {
	l := &linking{ToLinks: t, Position: t.Start, store: ByAPI(t.API, t.Parallel), pace: newPace(t.Rate)}
	l.Way = WayToLinks
	l.Summary.Cases = maps.Clone(t.Start.Summary.Cases)
	if l.Summary.Cases == nil {
		l.Summary.Cases = map[Kind]int{}
	}
	for ; l.Pass < len(imageKeys); l.Pass, l.After = l.Pass+1, "" {
		for {
			colls, err := imagePage(ctx, t.API, l.Pass, l.After, l.pace.chunk())
			if err != nil {
				return l.Summary, err
			}
			// Servers give fewer than were asked for where manifests are
			// large.
			if len(colls) == 0 {
				break
			}
			if err := l.do(ctx, colls); err != nil {
				return l.Summary, err
			}
			l.After = colls[len(colls)-1].UUID
			if t.Passed != nil {
				if err := t.Passed(l.Position); err != nil {
					return l.Summary, err
				}
			}
		}
	}
	return l.Summary, nil
}

// imagePage are the next images by one of the keys.
func imagePage(ctx context.Context, api dockerimage.API, number int, after string, limit int) ([]Collection, error) {
	var list struct{ Items []Collection }
	err := api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/collections", nil, arvados.ResourceListParams{
		Filters: append(imagesBy(number), arvados.Filter{Attr: "uuid", Operator: ">", Operand: after}),
		Select:  headAttrs, Order: "uuid", Limit: &limit, Count: "none",
	})
	if err != nil {
		return nil, apiFault("list", "image collections", err)
	}
	for i := range list.Items {
		list.Items[i].Decode()
	}
	return list.Items, nil
}

// impliedLinks are those properties of a collection that imply links, and what is
// special about it. left tells that it cannot pass as an image.
func impliedLinks(coll Collection) (implied dockerimage.Properties, left bool, cases []Case) {
	p := &plan{coll: coll.Collection}
	found := coll.foundIn()
	hash, err := found.Hash()
	if err != nil {
		p.note(oddFile(coll.ManifestText), "%v", err)
		return implied, true, p.Cases
	}
	if err := found.Check(); err != nil {
		p.note(CannotPass, "%v", err)
		return implied, true, p.Cases
	}
	// A link with a name by which lookups do not find the image would give it
	// one that it has not.
	implied = dockerimage.Properties{Hash: hash, Timestamp: found.Properties.Timestamp}
	for _, name := range found.Properties.RepoTags {
		if _, _, kind := readName(name, hash); kind != "" {
			p.note(kind, "%.200q", name)
			continue
		}
		implied.RepoTags = append(implied.RepoTags, name)
	}
	return implied, false, p.Cases
}
