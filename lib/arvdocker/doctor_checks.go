// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

const (
	// maxSkew is how far clocks may be apart without being worth a word.
	maxSkew = time.Minute
	// soon is how long a token should be good for at least.
	soon = 24 * time.Hour
	// keepTime is how long Keep has for a few bytes.
	keepTime = 30 * time.Second
	// maxDocument is the most bytes of a discovery document, which has some
	// hundred KiB.
	maxDocument = 16 << 20
)

// probe is what is written to Keep. It is always the same, so that there is only
// ever one block of it.
const probe = "arv-docker doctor\n"

// refusedKeys are the properties of images that no server lets through where the
// vocabulary is strict and has not got them, with labels for people.
var refusedKeys = []struct{ key, label string }{
	{dockerimage.KeyHash, "Docker image hash"},
	{dockerimage.KeyTimestamp, "Docker image timestamp"},
}

// discovered is what the API server says of itself.
type discovered struct {
	Name        string
	UUIDPrefix  string
	Revision    string
	Replication int           `json:"defaultCollectionReplication"`
	skew        time.Duration // of its clock before ours
	clock       bool          // it has told the time
}

// exportedConfig is what is of interest in the configuration that every API
// server shows; Arvados's config.yml has the same keys.
type exportedConfig struct {
	Containers    struct{ ResolveImagesByProperties bool }
	InstanceTypes map[string]instanceType
}

type instanceType struct {
	VCPUs int
	RAM   int64 // bytes
}

// checkUp looks at the settings.
func (d *doctor) checkUp(context.Context) finding {
	if err := d.checkSettings(); err != nil {
		return failed(err)
	}
	if d.API.Insecure {
		return found("ARVADOS_API_HOST is %s; ARVADOS_API_HOST_INSECURE is set, so that anybody could pose as it", d.API.APIHost).
			with(warning, "unset it unless this is for trying things out")
	}
	return found("ARVADOS_API_HOST is %s, and ARVADOS_API_TOKEN is set", d.API.APIHost)
}

// checkServer reads what the server says of itself, and its clock.
func (d *doctor) checkServer(ctx context.Context) finding {
	const path = "/discovery/v1/apis/arvados/v1/rest"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cmp.Or(d.API.Scheme, "https")+"://"+d.API.APIHost+path, nil)
	if err != nil {
		return failed(wrong("ARVADOS_API_HOST", err, "write host or host:port"))
	}
	asked := time.Now()
	resp, err := d.first().Do(req)
	if err != nil {
		return failed(d.explain(http.MethodGet, path, err))
	}
	defer resp.Body.Close()
	answered := time.Now()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	switch {
	case err != nil:
		return failed(d.explain(http.MethodGet, path, err))
	case resp.StatusCode != http.StatusOK:
		return failed(d.notArvados(errors.New(resp.Status)))
	case json.Unmarshal(body, &d.server) != nil || d.server.Name != "arvados":
		return failed(d.notArvados(errors.New("it has no discovery document")))
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		middle := asked.Add(answered.Sub(asked) / 2)
		d.server.skew, d.server.clock = date.Sub(middle), true
	}
	return found("cluster %s, revision %s, answers in %d ms", d.server.UUIDPrefix, d.server.Revision, answered.Sub(asked).Milliseconds())
}

// checkClock compares the clocks.
func (d *doctor) checkClock(context.Context) finding {
	switch off := d.server.skew.Round(time.Second); {
	case !d.server.clock:
		return found("the server does not tell the time")
	case off.Abs() > maxSkew:
		return found("the clock of this machine differs from the server's by %v", off.Abs()).
			with(warning, "set it: of images with one name, the one made last is meant")
	}
	return found("the clock of this machine agrees with the server's")
}

// checkToken looks whose token it is, and how long it is good for what.
func (d *doctor) checkToken(ctx context.Context) finding {
	if err := d.identify(ctx); err != nil {
		return failed(err)
	}
	who := fmt.Sprintf("%s (%s)", cmp.Or(d.user.Username, d.user.Email, "a user"), d.user.UUID)
	if d.user.IsAdmin {
		who += ", an administrator"
	}
	if !d.user.IsActive {
		return found("it is that of %s, whose account is not active", who).with(problem, "ask the administrator to activate it")
	}
	var token struct { // without the secret
		Scopes    []any     `json:"scopes"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	err := d.call(ctx, &token, http.MethodGet, "api_client_authorizations/current", nil)
	left := time.Until(token.ExpiresAt).Round(time.Minute)
	switch {
	case err != nil:
		return found("it is that of %s; the server does not tell how long it is good for what", who)
	case !slices.Contains(token.Scopes, any("all")):
		return found("it is that of %s, but good for some requests only: %v", who, token.Scopes).
			with(warning, "get one with all scopes from Workbench if something is refused")
	case token.ExpiresAt.IsZero():
		return found("it is that of %s, and does not expire", who)
	case left < soon:
		return found("it is that of %s, and expires in %v", who, left).with(warning, "get a new one from Workbench")
	}
	return found("it is that of %s, and expires on %s", who, token.ExpiresAt.Format(time.DateOnly))
}

// checkConfig reads the configuration for later.
func (d *doctor) checkConfig(ctx context.Context) finding {
	if err := d.call(ctx, &d.config, http.MethodGet, "config", nil); err != nil {
		f := failed(err)
		return f.with(warning, f.Advice)
	}
	return found("the server shows its configuration")
}

// checkKeep writes and reads a block.
func (d *doctor) checkKeep(ctx context.Context) finding {
	const advice = "this machine must reach the cluster's Keep services; from outside that is its keepproxy"
	limited, cancel := context.WithTimeout(ctx, keepTime)
	defer cancel()
	kc, err := d.keep(limited)
	if err != nil {
		return failed(err).with(problem, advice)
	}
	started := time.Now()
	written, err := kc.BlockWrite(limited, arvados.BlockWriteOptions{Data: []byte(probe)})
	var read bytes.Buffer
	if err == nil {
		_, err = kc.BlockRead(limited, arvados.BlockReadOptions{Locator: written.Locator, WriteTo: &read})
	}
	if err == nil && read.String() != probe {
		err = errors.New("what was read is not what was written")
	}
	at := strings.Join(slices.Sorted(maps.Values(kc.LocalRoots())), ", ")
	if err != nil {
		return found("services %s: %v", at, err).with(problem, advice)
	}
	return found("a block was written (copies: %d) and read in %d ms; services: %s", written.Replicas, time.Since(started).Milliseconds(), at)
}

// checkReplication tells how often data is stored.
func (d *doctor) checkReplication(context.Context) finding {
	if d.server.Replication == 0 {
		return found("the server does not tell how many copies of a block it wants")
	}
	return found("copies of each block: %d", d.server.Replication)
}

// checkNames tells how the server finds images.
func (d *doctor) checkNames(context.Context) finding {
	if d.config.Containers.ResolveImagesByProperties {
		return found("the server finds images by properties; --links auto writes no links")
	}
	return found("the server finds images by links; --links auto writes them")
}

// checkBuiltin looks for what requests for pulls and builds name as their image.
func (d *doctor) checkBuiltin(ctx context.Context) finding {
	image, err := dockerimage.Resolve(ctx, d.API, builtin.Image, dockerimage.Policy{Links: true})
	switch {
	case err == nil:
	case !errors.Is(err, dockerimage.ErrNotFound):
		return failed(err)
	case d.config.Containers.ResolveImagesByProperties:
		return found("the server knows %s by itself", builtin.Image)
	default:
		return found("there is no image %s, so that pull and build are refused", builtin.Image).
			with(problem, "run arv-docker setup, or have the administrator install the builtin commands")
	}
	var config struct {
		Config struct{ Labels map[string]string }
	}
	opened, err := d.open(ctx, image)
	if err == nil && json.Unmarshal(opened.Config, &config) == nil && config.Config.Labels[builtin.Label] != "" {
		return found("%s is collection %s: pulls run on every node, builds where the front is installed", builtin.Image, image.UUID)
	}
	return found("%s is collection %s, which only names the builtin commands", builtin.Image, image.UUID).
		with(warning, "pulls and builds need nodes with the front; arv-docker setup brings an image that pulls without it")
}

// vocabulary says which properties may be written.
type vocabulary struct {
	StrictTags bool `json:"strict_tags"`
	Tags       map[string]struct{ Strict bool }
}

// vocabulary asks the server for it.
func (s *session) vocabulary(ctx context.Context) (v vocabulary, err error) {
	err = s.call(ctx, &v, http.MethodGet, "vocabulary", nil)
	return v, err
}

// missingKeys are the properties of images that it refuses, as lines to add to it.
func (v vocabulary) missingKeys() (lines []string) {
	for _, refused := range refusedKeys {
		if tag, known := v.Tags[refused.key]; v.StrictTags && (!known || tag.Strict) {
			lines = append(lines, fmt.Sprintf(`%q: {"strict": false, "labels": [{"label": %q}]}`, refused.key, refused.label))
		}
	}
	return lines
}

// checkVocabulary looks whether the properties of images may be written.
func (d *doctor) checkVocabulary(ctx context.Context) finding {
	v, err := d.vocabulary(ctx)
	missing := v.missingKeys()
	switch {
	case err != nil:
		return found("the server shows no vocabulary")
	case !v.StrictTags:
		return found("any property may be written")
	case len(missing) == 0:
		return found("it is strict, and has the properties of images")
	}
	f := found("it is strict, and lacks properties of images, so that load, push and tag may be refused").
		with(warning, `have the administrator add to "tags" in the vocabulary file (API.VocabularyPath)`)
	f.Lines = missing
	return f
}

// checkNodes compares what pulls and builds ask for with the largest nodes.
func (d *doctor) checkNodes(context.Context) finding {
	if len(d.config.InstanceTypes) == 0 {
		return found("the server does not tell how large its nodes are")
	}
	var largest instanceType
	for _, node := range d.config.InstanceTypes {
		largest.RAM, largest.VCPUs = max(largest.RAM, node.RAM), max(largest.VCPUs, node.VCPUs)
	}
	f := found("the largest have RAM %s, cores %d", builtin.Size(largest.RAM), largest.VCPUs)
	if largest.RAM <= buildNeeds.ram || largest.VCPUs < buildNeeds.cores {
		return f.with(warning, fmt.Sprintf("builds ask for RAM %s, cores %d; ask for less with --ram and --cores", builtin.Size(buildNeeds.ram), buildNeeds.cores))
	}
	return f
}
