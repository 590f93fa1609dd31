// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	bkclient "github.com/moby/buildkit/client"
)

// BuildRequest says what to build for whom.
type BuildRequest struct {
	// Owner makes private names on the engine: the UUID of the container.
	// Two builds at the same time must have different owners.
	Owner string
	// Context starts the stream of the build context, a tar. It is called
	// once at most, with the context of the build. The engine builds from a
	// tar that is cut between two files as if it were whole, so a producer
	// that fails must end with an error, never with io.EOF. Engines obey no
	// .dockerignore in it.
	Context func(ctx context.Context) io.ReadCloser
	// Dockerfile is the recipe, with the names of Bases. What the context has
	// under this name is a file like any other.
	Dockerfile []byte
	Target     string // stage to build, "" for the last one
	Platform   string // "os/arch" or "os/arch/variant", "" for the engine's own
	Args       map[string]string
	Labels     map[string]string
	NoCache    bool   // run every step, whatever the engine has in its cache
	Network    string // of RUN steps: NetworkNone, or "" for the engine's default
	// Secrets by their ids, for RUN --mount=type=secret. The engine stores
	// them nowhere. They may be printed by a step: Log gets what it prints.
	Secrets map[string][]byte
	// Bases are the images that the recipe names. The engine gets no
	// credentials: what is not among them it may fetch only if it is public.
	Bases []Base
	// Limits of each RUN step, 0 for none; see LimitsWork.
	Memory int64   // bytes, RAM and swap together
	CPUs   float64 // cores
	// Epoch, if not nil, is the time that the image and, where the engine
	// can, all its new files have: SOURCE_DATE_EPOCH.
	Epoch *time.Time
	// CacheScope, if not "", keeps the results of steps on the engine, so
	// that a step which has not changed is not run again, and shares cache
	// mounts (RUN --mount=type=cache) among the builds of the same scope:
	// the UUID of a user. With "" this build's records are removed.
	CacheScope string
	// CacheSize, if not 0, is the most bytes that the engine's build cache may
	// have after a build with a CacheScope: what was not used for longest
	// goes, whoever made it.
	CacheSize int64

	// Log, if not nil, gets lines for people about steps, and what they print.
	// Activity, if not nil, gets what the build is doing now. Both are
	// called from one goroutine at a time.
	Log      func(line string)
	Activity func(what string)
}

// Base is an image by the name that FROM, COPY --from or RUN --mount=from= of
// the Dockerfile have for it.
type Base struct {
	Name  string // see BaseName
	Shown string // its name for people, in the log and in errors
	Image imagetar.Image
}

// BaseName is the name for the n-th image that a build brings. No other name
// will do: it is tagged on some engines, and nobody's tag may be touched.
func BaseName(owner string, n int) string {
	return fmt.Sprintf("arvados-builtin/%s:base%d", strings.ToLower(owner), n)
}

// BuiltImage is an image that has been built, for as long as the function runs
// that it was given to.
type BuiltImage struct {
	ID string // digest of the config, or as StoreContainerd says
	// Limited: the RUN steps ran within the limits that were asked for.
	Limited bool
	// Open starts the stream of the image archive, in the dialect of the
	// engine; imagetar.ScanArchive reads all of them. It may be called once.
	// A stream that is cut ends with an error, not with io.EOF. It must be
	// closed, and ends when the function does that got the image.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Build has the engine build an image, has use work with it, and removes from
// the engine what came of it, also when something fails, when use panics and
// when ctx ends: the image, bases, the uploaded context, and records of the
// build cache unless CacheScope keeps them.
//
// A step that fails is a *BuildError of side fault.Build. Trouble of the context
// or of a base is returned as it is.
//
// An engine does not say which build made a cache record. What is removed are
// those that were not there before and that no build is using, so of two
// builds at the same time, the other may lose what it would have found in the
// cache later; what it is doing is not disturbed.
//
// Records that are still in use some seconds later stay, and Log is told. A newer
// engine (BuildKit 0.33) lets go of what a step has used that was cancelled, and of
// a base that could not be read, only when its process next collects garbage,
// minutes later; "docker builder prune" or its own limits remove them then. An old
// one (0.8) may keep for ever what two builds have copied at the same time of which
// one was cancelled. The process of a step is gone at once.
func (e *Engine) Build(ctx context.Context, req BuildRequest, use func(context.Context, BuiltImage) error) error {
	b, err := e.prepareBuild(ctx, req)
	if err != nil {
		return err
	}
	defer b.client.Close()
	b.remember(ctx)
	defer b.cleanup(ctx)
	if err := b.bring(ctx); err != nil {
		return err
	}
	if b.streams() {
		return b.stream(ctx, use)
	}
	return b.store(ctx, use)
}

// build is one Build.
type build struct {
	*Engine
	req     BuildRequest
	client  *bkclient.Client
	info    Info
	limited bool
	private string // our name for the image
	nonce   string // in names of what only this build sends
	bases   *baseStore
	loaded  []loadedBase
	context contextStream
	records map[string]bool // of the build cache, before the build
	steps   *steps
}

func (e *Engine) prepareBuild(ctx context.Context, req BuildRequest) (*build, error) {
	b := &build{Engine: e, req: req, bases: &baseStore{}, nonce: newNonce()}
	if b.req.Log == nil {
		b.req.Log = func(string) {}
	}
	if b.req.Activity == nil {
		b.req.Activity = func(string) {}
	}
	var shown []string
	for _, base := range req.Bases {
		shown = append(shown, "docker.io/"+base.Name, base.Shown, base.Name, base.Shown)
	}
	b.steps = &steps{log: b.req.Log, activity: b.req.Activity, names: strings.NewReplacer(shown...)}
	var err error
	if b.private, err = privateName("build", req.Owner, req.Owner); err != nil {
		return nil, err
	}
	for i, base := range req.Bases {
		if wanted := BaseName(req.Owner, i); base.Name != wanted {
			return nil, &fault.Error{Op: "build", Side: fault.Request, Subject: base.Name, Err: fmt.Errorf("the base must be called %s", wanted)}
		}
	}
	if b.info, err = e.Ping(ctx); err != nil {
		return nil, err
	}
	if req.Memory > 0 || req.CPUs > 0 {
		if b.limited, err = e.LimitsWork(ctx); err != nil {
			return nil, err
		}
		if !b.limited {
			b.req.Log("this engine does not limit the memory and CPUs of RUN steps")
		}
	}
	b.client, err = e.buildkit(ctx)
	return b, err
}

// buildkit connects BuildKit's client to the engine. It must be closed.
func (e *Engine) buildkit(ctx context.Context) (*bkclient.Client, error) {
	client, err := bkclient.New(ctx, "",
		bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return e.dial(ctx, "/grpc", "h2c", nil)
		}),
		bkclient.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return e.dial(ctx, "/session", proto, meta)
		}))
	if err != nil {
		return nil, e.fault("connect to the builder of", "", err)
	}
	return client, nil
}

// streams reports whether the image comes straight from the builder. The image
// store decides, not the version: others know the exporter "moby" only.
func (b *build) streams() bool { return b.info.Store == StoreContainerd }

// stream hands the archive to use while the builder writes it.
func (b *build) stream(ctx context.Context, use func(context.Context, BuiltImage) error) error {
	ctx, cancel := context.WithCancel(ctx)
	archive, w := io.Pipe()
	ready := make(chan string, 1)
	export := bkclient.ExportEntry{Type: bkclient.ExporterDocker, Attrs: map[string]string{},
		Output: func(meta map[string]string) (io.WriteCloser, error) {
			ready <- meta["containerimage.config.digest"]
			return archiveWriter{w}, nil
		}}
	if b.req.Epoch != nil {
		export.Attrs["rewrite-timestamp"] = "true"
	}
	solved := make(chan error, 1)
	go func() {
		err := b.solve(ctx, export)
		w.CloseWithError(err) // io.EOF only now: the builder may fail after the last byte
		solved <- err
	}()
	ended := false
	defer func() {
		cancel()
		archive.Close()
		if !ended {
			<-solved
		}
	}()
	select {
	case err := <-solved:
		ended = true
		if err == nil {
			err = b.fault("build", "", errors.New("the engine has built no image"))
		}
		return err
	case id := <-ready:
		opened := false
		return use(ctx, BuiltImage{ID: id, Limited: b.limited, Open: func(ctx context.Context) (io.ReadCloser, error) {
			if opened {
				return nil, b.fault("read image", id, errors.New("it can be read only once"))
			}
			opened = true
			stop := context.AfterFunc(ctx, func() { w.CloseWithError(b.fault("read image", id, ctx.Err())) })
			return stopReader{archive, stop}, nil
		}})
	}
}

// archiveWriter is closed by the builder's session whether or not the export
// succeeded; only the end of the build says that.
type archiveWriter struct{ io.Writer }

func (archiveWriter) Close() error { return nil }

type stopReader struct {
	io.ReadCloser
	stop func() bool
}

func (r stopReader) Close() error {
	r.stop()
	return r.ReadCloser.Close()
}

// store has the image stored under our private name, and hands the stream of
// "docker save" to use.
func (b *build) store(ctx context.Context, use func(context.Context, BuiltImage) error) error {
	if err := b.solve(ctx, bkclient.ExportEntry{Type: "moby", Attrs: map[string]string{"name": b.private}}); err != nil {
		return err
	}
	img, err := b.inspect(ctx, b.private, "", b.info)
	if err != nil {
		return err
	}
	if img.id == "" {
		return b.fault("build", "", errCut)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return use(ctx, BuiltImage{ID: img.id, Limited: b.limited, Open: func(opened context.Context) (io.ReadCloser, error) {
		opened, end := context.WithCancel(opened)
		context.AfterFunc(ctx, end)
		stream, err := b.save(opened, img.id, img.platform, b.info)
		if err != nil {
			end()
			return nil, err
		}
		return stream, nil
	}})
}
