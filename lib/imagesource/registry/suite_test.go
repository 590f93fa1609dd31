// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"gopkg.in/check.v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Test(t *testing.T) { check.TestingT(t) }

// fixture has a registry that fails as told and a Source that does not wait.
type fixture struct {
	server *registrytest.Server
	image  imagetar.Image // app:1, with one layer of 300000 bytes
	source *Source
	log    bytes.Buffer

	mtx   sync.Mutex
	slept []time.Duration
}

type suite struct{ fixture }

var _ = check.Suite(&suite{})

func (s *fixture) SetUpTest(c *check.C) {
	s.server = registrytest.New()
	s.image = randomimage.New(1, 300000)
	s.server.Push("app:1", s.image)
	s.log.Reset()
	s.slept = nil
	s.source = s.newSource(c, "")
}

func (s *fixture) TearDownTest(c *check.C) {
	s.source.Close()
	s.server.Close()
}

// newSource makes a Source that may use the test's registry and any that has a
// public address.
func (s *fixture) newSource(c *check.C, credentials string, registries ...string) *Source {
	logger := logrus.New()
	logger.Out = &s.log
	source, err := New(Options{
		Credentials: []byte(credentials),
		Registries:  append(registries, "*", s.server.Host()),
		Log:         logger,
	})
	c.Assert(err, check.IsNil)
	source.random = func() float64 { return 0.5 }
	source.sleep = func(ctx context.Context, d time.Duration) error {
		s.mtx.Lock()
		defer s.mtx.Unlock()
		s.slept = append(s.slept, d)
		return ctx.Err()
	}
	return source
}

// use replaces the Source by one with credentials.
func (s *fixture) use(c *check.C, credentials string) {
	s.source.Close()
	s.source = s.newSource(c, credentials)
}

// ref names an image of the test's registry.
func (s *fixture) ref(c *check.C, name string) imageref.Ref {
	ref, err := imageref.Parse(s.server.Host() + "/" + name)
	c.Assert(err, check.IsNil)
	return ref
}

func (s *fixture) resolve(c *check.C, name, platform string) (*Image, error) {
	return s.source.Resolve(context.Background(), s.ref(c, name), platform)
}

// pull resolves an image and reads all its layers.
func (s *fixture) pull(c *check.C, name string) ([][]byte, error) {
	image, err := s.resolve(c, name, "linux/amd64")
	if err != nil {
		return nil, err
	}
	return readLayers(image.Image)
}

func readLayers(image imagetar.Image) (layers [][]byte, err error) {
	for _, layer := range image.Layers {
		content, err := readLayer(layer)
		if err != nil {
			return nil, err
		}
		layers = append(layers, content)
	}
	return layers, nil
}

func readLayer(layer imagetar.Layer) ([]byte, error) {
	body, err := layer.Open(context.Background())
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// expected is what pull should give for the image.
func (s *fixture) expected(c *check.C) [][]byte {
	layers, err := readLayers(s.image)
	c.Assert(err, check.IsNil)
	return layers
}

// blob is the path part of the layer, for scripts.
func (s *fixture) blob() string { return "/blobs/" + s.image.Layers[0].Digest }

// checkFault compares an error with what it should say.
func checkFault(c *check.C, err error, side fault.Side, transient bool, text string) {
	var f *fault.Error
	c.Assert(errors.As(err, &f), check.Equals, true, check.Commentf("%T %v", err, err))
	c.Check(f.Error(), check.Matches, text)
	c.Check(f.Side, check.Equals, side, check.Commentf("%v", err))
	c.Check(fault.Transient(err), check.Equals, transient, check.Commentf("%v", err))
}

// auths is a docker config.json with one login.
func auths(key, user, password string) string {
	buf, err := json.Marshal(map[string]any{"auths": map[string]any{key: map[string]string{"username": user, "password": password}}})
	if err != nil {
		panic(err)
	}
	return string(buf)
}

func comment(format string, args ...any) check.CommentInterface {
	return check.Commentf("%s", fmt.Sprintf(format, args...))
}
