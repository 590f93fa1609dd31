// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"context"
	"encoding/json"
	"io"
	"path/filepath"

	"git.arvados.org/arvados.git/lib/builtinrun"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keepaccess"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&labelSuite{})

type labelSuite struct{}

// Only the config of the image itself counts: not its name, not its properties.
func (*labelSuite) TestHasLabel(c *check.C) {
	ctx := context.Background()
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	cluster, err := localcluster.Start(ctx, localcluster.Options{Dir: filepath.Join(c.MkDir(), "data"), Log: quiet})
	c.Assert(err, check.IsNil)
	defer cluster.Stop()
	user := cluster.UserClient(localcluster.User)
	kc, err := keepaccess.Open(ctx, user)
	c.Assert(err, check.IsNil)
	keep := func(manifest string) string {
		var made arvados.Collection
		c.Assert(user.RequestAndDecode(&made, "POST", "arvados/v1/collections", nil, map[string]interface{}{"collection": map[string]interface{}{
			"manifest_text": manifest, "properties": map[string]string{"org.arvados.builtin": "1", "docker-image-repo-tag": "arvados/builtin:latest"},
		}}), check.IsNil)
		return made.PortableDataHash
	}
	image := func(labels string) string {
		img := randomimage.New(1, 5<<20, 4096)
		var config map[string]interface{}
		c.Assert(json.Unmarshal(img.Config, &config), check.IsNil)
		config["config"] = json.RawMessage(labels)
		img.Config, err = json.Marshal(config)
		c.Assert(err, check.IsNil)
		img.Manifest = nil
		saved, err := (&dockerimage.Saver{API: user, Keep: kc}).Save(ctx, img)
		c.Assert(err, check.IsNil)
		return keep(saved.ManifestText)
	}
	for _, trial := range []struct {
		pdh string
		has bool
	}{
		{image(`{"Labels": {"org.arvados.builtin": "1"}}`), true},
		{image(`{"Labels": {"org.arvados.builtin": "", "other": "x"}}`), true},
		{image(`{"Labels": {"org.arvados": "1"}}`), false},
		{image(`{"Labels": null}`), false},
		{image(`null`), false},
	} {
		has, err := builtinrun.HasLabel(ctx, cluster.Client(cluster.SystemRootToken), trial.pdh)
		c.Assert(err, check.IsNil)
		c.Check(has, check.Equals, trial.has, check.Commentf("%v", trial))
	}

	// What is no image, or not there, or cannot be seen, is an error.
	labelled := image(`{"Labels": {"org.arvados.builtin": "1"}}`)
	manifest := keepfile.FormatManifest([]keepfile.File{{Path: "readme"}})
	for _, trial := range []struct {
		client *arvados.Client
		pdh    string
	}{
		{user, keep(manifest)},
		{user, "d41d8cd98f00b204e9800998ecf8427e+0"},
		{user, "0123456789abcdef0123456789abcdef+99"},
		{cluster.Client("no-token"), labelled},
		{&arvados.Client{}, labelled},
	} {
		has, err := builtinrun.HasLabel(ctx, trial.client, trial.pdh)
		c.Check(err, check.NotNil, check.Commentf("%v", trial.pdh))
		c.Check(has, check.Equals, false)
	}
}
