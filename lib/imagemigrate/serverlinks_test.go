// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"encoding/json"
	"slices"
)

// writeLink makes a link.
func (v *view) writeLink(dst, params interface{}) error {
	buf, err := json.Marshal(params)
	if err != nil {
		return err
	}
	var sent struct{ Link record }
	if err := json.Unmarshal(buf, &sent); err != nil {
		return err
	}
	properties, _ := sent.Link["properties"].(map[string]interface{})
	v.link(sent.Link.text("owner_uuid"), sent.Link.text("link_class"), sent.Link.text("name"), sent.Link.text("head_uuid"), properties[linkTime])
	made := v.links[len(v.links)-1]
	v.writes++
	v.written = append(v.written, made.text("uuid"))
	buf, err = json.Marshal(made)
	if err != nil {
		return err
	}
	return json.Unmarshal(buf, dst)
}

// deleteLink deletes one. Tests may have kept what was there before.
func (v *view) deleteLink(uuid string) error {
	v.links = slices.DeleteFunc(slices.Clone(v.links), func(link record) bool { return link["uuid"] == uuid })
	return nil
}
