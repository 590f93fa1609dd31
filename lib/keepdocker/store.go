// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/engine"
	"git.arvados.org/arvados.git/lib/keepfile/keepaccess"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// storeImage brings an image of the engine into Arvados, and returns the UUID of
// its collection.
func (s *session) storeImage(ctx context.Context, args []string) (string, error) {
	w, err := parseWanted(args)
	if err != nil {
		return "", err
	}
	eng, err := engine.New(s.EngineHost)
	if err != nil {
		return s.storeFromArvados(ctx, w, engineFault(err))
	}
	defer eng.Close()
	img, err := s.onEngine(ctx, eng, w)
	if err != nil {
		return s.storeFromArvados(ctx, w, engineFault(err))
	}
	if err := s.checkFormat(ctx); err != nil {
		return "", err
	}
	n := w.names(img.ID, img.Names)
	unlock, err := s.lock(ctx, img.ID)
	if err != nil {
		return "", err
	}
	defer unlock()
	if !s.force {
		info, err := eng.Ping(ctx)
		if err != nil {
			return "", engineFault(err)
		}
		found, err := s.findHash(ctx, img.ID, func(hash string, p dockerimage.Properties) bool {
			// The Python tool names an image as the engine does, and says
			// no more of it.
			byManifest := p.ImageID() == dockerimage.ByManifest || hash == img.ID && info.Store == engine.StoreContainerd
			return byManifest == (s.imageID == dockerimage.ByManifest)
		})
		if err != nil {
			return "", err
		}
		if found != nil {
			return s.adopt(ctx, *found, n)
		}
	}
	stream, err := eng.Save(ctx, *img)
	if err != nil {
		return "", engineFault(err)
	}
	defer stream.Close()
	saved, err := s.save(ctx, stream)
	if err != nil {
		return "", err
	}
	if img.ID != saved.Hash && img.ID != saved.ConfigDigest && !slices.Contains(saved.Digests, img.ID) {
		// The id of the containerd store, by which the next call finds it.
		saved.Digests = append([]string{img.ID}, saved.Digests...)
	}
	return s.create(ctx, saved, n)
}

// onEngine is the image as the engine has it, after a pull if there is to be one.
func (s *session) onEngine(ctx context.Context, eng *engine.Engine, w wanted) (*engine.LocalImage, error) {
	img, err := eng.Image(ctx, w.lookup)
	if err != nil {
		return nil, err
	}
	// What a hash means does not change, and no registry knows it.
	var pulling error
	if s.pull && w.ref != (imageref.Ref{}) && (img == nil || w.hash == "") {
		pulling = eng.Fetch(ctx, w.ref, s.RegistryConfig, func(string) {})
		if pulling == nil {
			img, err = eng.Image(ctx, w.lookup)
		}
	}
	switch {
	case err != nil:
		return nil, err
	case img == nil && pulling != nil:
		return nil, pulling
	case img == nil:
		return nil, &fault.Error{Op: "look for image", Side: fault.Engine, Subject: w.lookup, Err: errors.New("there is no such image"),
			Hint: "--pull has the engine pull it"}
	case pulling != nil && ctx.Err() == nil:
		s.warn("the image is taken as the engine has it: %v", pulling)
	}
	return img, nil
}

// engineFault says what somebody who calls this program can do.
func engineFault(err error) error {
	var failed *fault.Error
	if !errors.As(err, &failed) || failed.Side != fault.Engine || !failed.Transient && failed.Op != "use the Docker Engine at" {
		return err
	}
	told := *failed
	told.Hint = "start the engine or set DOCKER_HOST; without one, use --tar FILE, or arv-docker pull"
	return &told
}

// storeFromArvados does what can be done where the engine has no such image, for
// the reason given: make an image of Arvados one of the project.
func (s *session) storeFromArvados(ctx context.Context, w wanted, reason error) (string, error) {
	if ctx.Err() != nil || s.force {
		return "", reason
	}
	found, err := s.resolve(ctx, w.lookup)
	if errors.Is(err, dockerimage.ErrNotFound) {
		return "", reason
	}
	if err != nil {
		return "", fmt.Errorf("%w; and in Arvados: %w", reason, err)
	}
	s.say("%v; so the image in Arvados is taken, of collection %s", reason, found.UUID)
	if is := found.Properties.ImageID(); is != cmp.Or(s.imageID, dockerimage.ByConfig) {
		s.warn("its file is named by the %s of the image (--image-id %s), which stays so", is, is)
	}
	hash, err := found.Hash()
	if err != nil {
		return "", err // Resolve finds nothing like that
	}
	if own, err := s.findHash(ctx, hash, anyHash); err != nil {
		return "", err
	} else if own != nil && own.OwnerUUID == s.owner {
		found = *own
	}
	return s.adopt(ctx, found, w.names(hash, found.Properties.RepoTags))
}

// isTar tells whether IMAGE is a file. An image may have such a name; with its
// tag it cannot be mistaken.
func isTar(image string) bool {
	info, err := os.Stat(image)
	return strings.HasSuffix(image, ".tar") && err == nil && info.Mode().IsRegular()
}

// storeFile brings the image in a tar file into Arvados, under the given name or,
// without one, those that the file has.
func (s *session) storeFile(ctx context.Context, path string, args []string) (string, error) {
	var n names
	if len(args) > 0 {
		var err error
		if n, err = parseName(args); err != nil {
			return "", err
		}
	}
	in := s.Stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", wrong("FILE", err, "name a tar file that you can read, or - for standard input")
		}
		defer file.Close()
		in = file
	}
	if err := s.checkFormat(ctx); err != nil {
		return "", err
	}
	saved, err := s.save(ctx, in)
	if err != nil {
		return "", err
	}
	if len(args) == 0 {
		n = s.namesInFile(saved.RepoTags)
	}
	return s.create(ctx, saved, n)
}

// namesInFile are the names of an archive that can be an image's.
func (s *session) namesInFile(found []string) (n names) {
	for _, text := range found {
		ref, err := imageref.Parse(text)
		if err != nil || ref.RepoTag() == "" {
			s.warn("the name %q in the file is left out", text)
			continue
		}
		n.repoTags = append(n.repoTags, ref.RepoTag())
	}
	if len(n.repoTags) > 0 {
		n.title = n.repoTags[0]
	}
	return n
}

// format is what our archives are called in the API server's configuration.
const format = "v2"

// checkFormat refuses to store an image that the API server would not take.
func (s *session) checkFormat(ctx context.Context) error {
	var doc struct {
		Formats []string `json:"dockerImageFormats"`
	}
	err := s.API.RequestAndDecodeContext(ctx, &doc, http.MethodGet, "discovery/v1/apis/arvados/v1/rest", nil, nil)
	if err != nil {
		return &fault.Error{Op: "read the discovery document of", Side: fault.API, Subject: s.API.APIHost, Err: err, Transient: true}
	}
	if slices.Contains(doc.Formats, format) {
		return nil
	}
	problem := fmt.Errorf("the API server takes images of formats %q only, and this one is %s", doc.Formats, format)
	if len(doc.Formats) == 0 {
		problem = errors.New("the API server does not say that it takes images of any format")
	}
	if s.forceFormat {
		s.warn("%v: it is stored all the same", problem)
		return nil
	}
	return wrong("image format", problem, "--force-image-format stores it all the same; the site sets Containers.SupportedDockerImageFormats")
}

// save puts an image archive into Keep, which makes no collection yet.
func (s *session) save(ctx context.Context, in io.Reader) (*dockerimage.Saved, error) {
	kc, err := keepaccess.Open(ctx, s.API)
	if err != nil {
		return nil, err
	}
	kc.Retries = s.retries
	bar := s.newProgress()
	defer bar.end()
	saver := &dockerimage.Saver{API: s.API, Keep: kc, Owner: s.owner, ImageID: s.imageID, Blocks: dockerimage.BlocksInFlight(), Progress: bar.show}
	return saver.SaveArchive(ctx, in)
}

// create makes the collection of an image, unless there is one by now: some images
// are known only once they have been read.
func (s *session) create(ctx context.Context, saved *dockerimage.Saved, n names) (string, error) {
	if !s.force {
		found, err := s.findHash(ctx, saved.Hash, func(hash string, _ dockerimage.Properties) bool { return hash == saved.Hash })
		if err != nil {
			return "", err
		}
		if found != nil {
			return s.adopt(ctx, *found, n)
		}
	}
	properties := saved.Properties(n.repoTags, time.Now()).Map()
	return s.createCollection(ctx, saved.Hash, saved.ManifestText, properties, n)
}

// createCollection makes a collection in one request, and then its links.
func (s *session) createCollection(ctx context.Context, hash, manifestText string, properties attrs, n names) (string, error) {
	name := s.name
	if name == "" {
		name = n.collectionName(hash)
	}
	coll, err := s.write(ctx, http.MethodPost, "collections", properties, attrs{
		"owner_uuid":    s.owner,
		"name":          name,
		"manifest_text": manifestText,
	})
	if err != nil {
		return "", err
	}
	return coll.UUID, s.writeLinks(ctx, coll, n)
}

// write makes or changes a collection with the given properties.
func (s *session) write(ctx context.Context, method, path string, properties, rest attrs) (coll arvados.Collection, err error) {
	params := attrs{"collection": rest}
	if method == http.MethodPost {
		params["ensure_unique_name"] = true
	}
	rest["properties"] = properties
	err = s.call(ctx, &coll, method, path, params)
	if twins, ok := dockerimage.WithTwins(properties, err); ok {
		rest["properties"] = twins
		err = s.call(ctx, &coll, method, path, params)
	}
	return coll, err
}

// writeLinks writes what older programs find the image by.
func (s *session) writeLinks(ctx context.Context, coll arvados.Collection, n names) error {
	err := dockerimage.WriteLinks(ctx, s.API, coll, n.links...)
	if err != nil {
		again := n.title
		if again == "" {
			again = "NAME[:TAG]"
		}
		return fmt.Errorf("%w; everything else is done: \"arv-keepdocker --tag-existing %s %s\" writes the links", err, coll.UUID, again)
	}
	return nil
}
