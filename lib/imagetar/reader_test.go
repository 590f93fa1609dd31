// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing/iotest"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&readerSuite{})

type readerSuite struct{}

// body is the opened layer of a test; it counts how often it was closed.
type body struct {
	io.Reader
	closed   int
	closeErr error
}

func (b *body) Close() error {
	b.closed++
	return b.closeErr
}

// withBody is an image whose layer of 5000 bytes is read from b.
func withBody(b *body) imagetar.Image {
	img := randomimage.New(1, 5000)
	img.Layers[0].Open = func(context.Context) (io.ReadCloser, error) { return b, nil }
	return img
}

func (s *readerSuite) TestTroubleOfALayerEndsTheArchive(c *check.C) {
	lost := errors.New("connection lost")
	for _, t := range []struct {
		layer   *body
		message string
	}{
		{&body{Reader: io.LimitReader(zeros{}, 4990)}, "blobs/sha256/.* is 10 bytes shorter than its header says"},
		{&body{Reader: io.LimitReader(zeros{}, 5001)}, "blobs/sha256/.* is longer than its header says"},
		{&body{Reader: zeros{}}, "blobs/sha256/.* is longer than its header says"},
		{&body{Reader: io.MultiReader(io.LimitReader(zeros{}, 100), iotest.ErrReader(lost))}, "connection lost"},
		{&body{Reader: io.LimitReader(zeros{}, 5000), closeErr: lost}, "connection lost"},
	} {
		img := withBody(t.layer)
		r := mustLayout(c, img).Reader(context.Background(), img.Layers)
		n, err := io.Copy(io.Discard, r)
		c.Check(err, check.ErrorMatches, t.message)
		c.Check(n <= 512+5000, check.Equals, true)
		_, again := r.Read(make([]byte, 1))
		c.Check(again, check.Equals, err)
		c.Check(r.Close(), check.IsNil)
		c.Check(t.layer.closed, check.Equals, 1)
	}
}

func (s *readerSuite) TestLayerThatDoesNotOpenEndsTheArchive(c *check.C) {
	img := randomimage.New(1, 5000)
	gone := errors.New("gone")
	img.Layers[0].Open = func(context.Context) (io.ReadCloser, error) { return nil, gone }
	r := mustLayout(c, img).Reader(context.Background(), img.Layers)
	n, err := io.Copy(io.Discard, r)
	c.Check(err, check.Equals, gone)
	c.Check(n, check.Equals, int64(512))
	c.Check(r.Close(), check.IsNil)
}

func (s *readerSuite) TestLayersOpenOneAfterTheOther(c *check.C) {
	img := randomimage.New(1, 5000, 6000)
	open := 0
	for i := range img.Layers {
		img.Layers[i].Open = func(context.Context) (io.ReadCloser, error) {
			open++
			return &closeHook{io.LimitReader(zeros{}, img.Layers[i].Size), func() { open-- }}, nil
		}
	}
	r := mustLayout(c, img).Reader(context.Background(), img.Layers)
	buf := make([]byte, 100)
	for {
		_, err := r.Read(buf)
		if err == io.EOF {
			break
		}
		c.Assert(err, check.IsNil)
		c.Assert(open <= 1, check.Equals, true)
	}
	c.Check(open, check.Equals, 0)
}

type closeHook struct {
	io.Reader
	hook func()
}

func (c *closeHook) Close() error {
	c.hook()
	return nil
}

func (s *readerSuite) TestClosingClosesTheLayer(c *check.C) {
	b := &body{Reader: zeros{}}
	img := withBody(b)
	r := mustLayout(c, img).Reader(context.Background(), img.Layers)
	_, err := io.ReadFull(r, make([]byte, 1000))
	c.Assert(err, check.IsNil)
	c.Check(r.Close(), check.IsNil)
	c.Check(r.Close(), check.IsNil)
	c.Check(b.closed, check.Equals, 1)
	_, err = r.Read(make([]byte, 1))
	c.Check(err, check.Equals, io.ErrClosedPipe)
}

func (s *readerSuite) TestLayersAreOpenedWithTheContext(c *check.C) {
	img := randomimage.New(1, 5000)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := io.Copy(io.Discard, mustLayout(c, img).Reader(ctx, img.Layers))
	c.Check(err, check.Equals, context.Canceled)
}

func (s *readerSuite) TestReaderKeepsTheRulesOfReaders(c *check.C) {
	img := randomimage.New(1, 5000, 2048)
	want := archiveOf(c, img)
	c.Check(iotest.TestReader(mustLayout(c, img).Reader(context.Background(), img.Layers), want), check.IsNil)
}

var _ = check.Suite(&verifySuite{})

type verifySuite struct{}

const hello = "hello, world"

func verified(r io.Reader, size int64) io.ReadCloser {
	return imagetar.Verify(io.NopCloser(r), sum([]byte(hello)), size)
}

func (s *verifySuite) TestRightContentPasses(c *check.C) {
	for _, r := range []io.Reader{
		strings.NewReader(hello),
		iotest.OneByteReader(strings.NewReader(hello)),
		iotest.DataErrReader(strings.NewReader(hello)),
	} {
		got, err := io.ReadAll(verified(r, int64(len(hello))))
		c.Check(err, check.IsNil)
		c.Check(string(got), check.Equals, hello)
	}
	empty := imagetar.Verify(io.NopCloser(strings.NewReader("")), sum(nil), 0)
	got, err := io.ReadAll(empty)
	c.Check(err, check.IsNil)
	c.Check(got, check.HasLen, 0)
	c.Check(iotest.TestReader(verified(strings.NewReader(hello), int64(len(hello))), []byte(hello)), check.IsNil)
}

func (s *verifySuite) TestWrongContentEndsWithAnErrorThatNamesIt(c *check.C) {
	for _, t := range []struct {
		content string
		size    int64
		problem string
		passed  int // most bytes that may be passed on
	}{
		{"hello, World", 12, "it is sha256:.*", 11},
		{"hello, wor", 12, "it ends 2 bytes early", 10},
		{"", 12, "it ends 12 bytes early", 0},
		{"hello, world!", 12, "it is longer than expected", 12},
		{"hello, world", 11, "(it is longer than expected|it is sha256:.*)", 10},
		{"hello, world", -1, "it is longer than expected", 0},
		{"", 0, "it is sha256:.*", 0},
	} {
		for _, wrap := range []func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.DataErrReader,
		} {
			r := verified(wrap(strings.NewReader(t.content)), t.size)
			got, err := io.ReadAll(r)
			c.Check(err, check.ErrorMatches, "content of "+sum([]byte(hello))+": "+t.problem)
			c.Check(err, check.FitsTypeOf, &imagetar.ContentError{})
			c.Check(len(got) <= t.passed, check.Equals, true, check.Commentf("%q of %q", got, t.content))
			_, again := r.Read(make([]byte, 1))
			c.Check(again, check.Equals, err)
		}
	}
}

// A caller that reads exactly size bytes never looks for the end.
func (s *verifySuite) TestWrongContentIsNeverComplete(c *check.C) {
	n, err := io.ReadFull(verified(strings.NewReader("hello, World"), 12), make([]byte, 12))
	c.Check(n < 12, check.Equals, true)
	c.Check(err, check.FitsTypeOf, &imagetar.ContentError{})
}

func (s *verifySuite) TestMalformedDigestNeverPasses(c *check.C) {
	for _, digest := range []string{"", "sha256:", hexA, "sha256:" + strings.Repeat("x", 1<<20)} {
		_, err := io.ReadAll(imagetar.Verify(io.NopCloser(strings.NewReader("")), digest, 0))
		c.Check(err, check.ErrorMatches, "content of .{0,100}: the digest is malformed")
	}
}

func (s *verifySuite) TestErrorsOfTheReaderPassAndClosingCloses(c *check.C) {
	lost := errors.New("connection lost")
	b := &body{Reader: io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(lost))}
	r := imagetar.Verify(b, sum([]byte(hello)), 12)
	got, err := io.ReadAll(r)
	c.Check(string(got), check.Equals, "hello")
	c.Check(err, check.Equals, lost)
	c.Check(r.Close(), check.IsNil)
	c.Check(b.closed, check.Equals, 1)
}
