// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"maps"
	"regexp"
	"strings"

	"git.arvados.org/arvados.git/lib/keepfile"
)

// OutputProperties are the properties of a request's output collection. The
// request's own win over the container's, and either over the server's.
func OutputProperties(request, container Record) map[string]any {
	properties := map[string]any{"container_request": request["uuid"], "type": "output"}
	if str(request["requesting_container_uuid"]) != "" {
		properties["type"] = "intermediate"
	}
	maps.Copy(properties, asHash(container["output_properties"]))
	maps.Copy(properties, asHash(request["output_properties"]))
	return properties
}

// LogProperties are the properties of a request's log collection.
func LogProperties(request Record) map[string]any {
	return map[string]any{"container_request": request["uuid"], "type": "log"}
}

// OutputName is the name of a request's output collection. A name that no
// collection can have must not keep a container from ending.
func OutputName(request Record) string {
	if name := str(request["output_name"]); name != "" && name != "." && name != ".." && !strings.Contains(name, "/") {
		return name
	}
	return "Container output for request " + str(request["uuid"])
}

// LogName is the name of a request's log collection, which has the logs of all
// its containers.
func LogName(request Record) string { return "Container log for request " + str(request["uuid"]) }

// ContainerLogName is the name of the copy of one container's log, which other
// requests that share the container depend on.
func ContainerLogName(container string) string { return "Container log for container " + container }

// MergeLog adds the log of a container to the manifest of a request's log
// collection: at top level, unless that is for another container's, and in a
// folder that keeps it when the next container's log takes the top level.
func MergeLog(manifest, log, container string, top bool) (string, error) {
	files, err := keepfile.ParseManifest(manifest)
	if err != nil {
		return "", err
	}
	added, err := keepfile.ParseManifest(log)
	if err != nil {
		return "", err
	}
	at := map[string]int{}
	for i, file := range files {
		at[file.Path] = i
	}
	put := func(file keepfile.File) {
		if i, ok := at[file.Path]; ok {
			files[i] = file
		} else {
			files = append(files, file)
		}
	}
	for _, file := range added {
		if top {
			put(file)
		}
		put(keepfile.File{Path: "log for container " + container + "/" + file.Path, Segments: file.Segments})
	}
	return keepfile.FormatManifest(files), nil
}

var (
	imageFile = regexp.MustCompile(`^sha256:[0-9A-Fa-f]{64}\.tar$`)
	fileToken = regexp.MustCompile(` ([0-9]+:[0-9]+:)([^ \n]*)`)
)

// EscapeColons makes a manifest one in the strict format, by which colons in
// names are escaped: Arvados lets them go unescaped.
func EscapeColons(manifest string) string {
	return fileToken.ReplaceAllStringFunc(manifest, func(token string) string {
		parts := fileToken.FindStringSubmatch(token)
		return " " + parts[1] + strings.ReplaceAll(parts[2], ":", `\072`)
	})
}

// IsImage tells whether a collection holds an image: one file in all, whose
// name is a config digest.
func IsImage(manifest string) bool {
	files, err := keepfile.ParseManifest(EscapeColons(manifest))
	if err != nil || len(files) != 1 {
		return false
	}
	return imageFile.MatchString(files[0].Path[strings.LastIndex(files[0].Path, "/")+1:])
}
