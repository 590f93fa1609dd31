// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package enginetest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Names are the names of images that the engine has, sorted.
func (s *Server) Names() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Sorted(maps.Keys(s.names))
}

// SetName gives an image a name on the engine.
func (s *Server) SetName(name string, image Image) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.names[name] = image
}

// RemoveName takes a name away, if it is there.
func (s *Server) RemoveName(name string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	delete(s.names, name)
}

// id is what the engine calls an image.
func (s *Server) id(image Image) string {
	if s.Kind.Containerd {
		return image.Manifest
	}
	return image.Config
}

// find looks an image of the engine up by name or id.
func (s *Server) find(name string) (Image, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if image, ok := s.names[name]; ok {
		return image, true
	}
	for _, image := range s.names {
		if s.id(image) == name {
			return image, true
		}
	}
	return Image{}, false
}

func (s *Server) about(w http.ResponseWriter) {
	info := map[string]any{
		"Version": "20.10.24", "ApiVersion": s.Kind.APIVersion, "Os": "linux", "Arch": "amd64",
		"Driver": "overlay2", "DriverStatus": [][2]string{{"Backing Filesystem", "extfs"}},
	}
	if s.Kind.Containerd {
		info["Version"], info["Driver"] = "29.0.0", "overlayfs"
		info["DriverStatus"] = [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
	}
	reply(w, http.StatusOK, info)
}

// atRegistry looks an image up by name with tag, or with digest.
func (s *Server) atRegistry(name string) (Image, bool) {
	if repository, digest, ok := strings.Cut(name, "@"); ok {
		for tagged, image := range s.Registry {
			if strings.HasPrefix(tagged, repository+":") && image.Manifest == digest {
				return image, true
			}
		}
		return Image{}, false
	}
	image, ok := s.Registry[name]
	return image, ok
}

func (s *Server) resolve(w http.ResponseWriter, name string) {
	image, ok := s.atRegistry(name)
	if !ok {
		reply(w, http.StatusNotFound, map[string]string{"message": "manifest unknown: manifest unknown"})
		return
	}
	reply(w, http.StatusOK, map[string]any{
		"Descriptor": map[string]any{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.Manifest, "size": 405},
		"Platforms":  []any{},
	})
}

func (s *Server) pull(w http.ResponseWriter, req *http.Request) {
	repository, tag := req.FormValue("fromImage"), req.FormValue("tag")
	name := repository + ":" + tag
	if strings.HasPrefix(tag, "sha256:") {
		name = repository + "@" + tag
	}
	image, ok := s.atRegistry(name)
	if !ok {
		Error(http.StatusNotFound, "manifest for "+name+" not found: manifest unknown: manifest unknown")(w, req)
		return
	}
	s.SetName(name, image)
	if !s.Kind.Containerd {
		s.SetName(repository+"@"+image.Manifest, image)
	}
	Stream(append(slices.Clone(Pulling), Pulled(name, image.Manifest)...)...)(w, req)
}

func (s *Server) inspect(w http.ResponseWriter, name string) {
	image, ok := s.find(name)
	if !ok {
		noImage(w, name)
		return
	}
	os, arch, _ := strings.Cut(image.Platform, "/")
	var tags []string
	for _, other := range s.Names() {
		if found, _ := s.find(other); s.id(found) == s.id(image) && !strings.Contains(other, "@") {
			tags = append(tags, other)
		}
	}
	reply(w, http.StatusOK, map[string]any{"Id": s.id(image), "Os": os, "Architecture": arch, "RepoTags": tags})
}

func (s *Server) list(w http.ResponseWriter) {
	images := []map[string]any{}
	for _, name := range s.Names() {
		image, _ := s.find(name)
		entry := map[string]any{"Id": s.id(image)}
		if strings.Contains(name, "@") {
			entry["RepoDigests"] = []string{name}
		} else {
			entry["RepoTags"] = []string{name}
		}
		images = append(images, entry)
	}
	reply(w, http.StatusOK, images)
}

func (s *Server) tag(w http.ResponseWriter, req *http.Request, name string) {
	image, ok := s.find(name)
	if !ok {
		noImage(w, name)
		return
	}
	// Clients write names in full here, which engines shorten.
	repository := strings.TrimPrefix(req.FormValue("repo"), "docker.io/")
	s.SetName(repository+":"+req.FormValue("tag"), image)
	w.WriteHeader(http.StatusCreated)
}

func (s *Server) remove(w http.ResponseWriter, name string) {
	image, ok := s.find(name)
	if !ok {
		noImage(w, name)
		return
	}
	for _, other := range s.Names() {
		if found, _ := s.find(other); other == name || s.id(image) == name && s.id(found) == name {
			s.RemoveName(other)
		}
	}
	reply(w, http.StatusOK, []map[string]string{{"Untagged": name}})
}

func (s *Server) save(w http.ResponseWriter, req *http.Request) {
	image, ok := s.find(req.FormValue("names"))
	if !ok {
		noImage(w, req.FormValue("names"))
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	_, _ = w.Write(image.Save)
}

func noImage(w http.ResponseWriter, name string) {
	reply(w, http.StatusNotFound, map[string]string{"message": "No such image: " + name})
}
