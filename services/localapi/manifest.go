// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// What RailsAPI lets pass as the tokens of a manifest.
var (
	locatorToken = regexp.MustCompile(`^([[:xdigit:]]{32})(\+[0-9]+)?(\+[[:upper:]][[:alnum:]@_-]*)*$`)
	plainToken   = regexp.MustCompile(`^([^\x00-\x20\\]|\\[0-3][0-7][0-7])+$`)
	streamName   = regexp.MustCompile(`^\.(/[^/]+)*$`)
	fileToken    = regexp.MustCompile(`(?s)^([0-9]+):([0-9]+):(.+)$`)
	filePath     = regexp.MustCompile(`^[^/]+(/[^/]+)*$`)
	wideEscape   = regexp.MustCompile(`[^\\]\\[4-7][0-7][0-7]`)
	escape       = regexp.MustCompile(`\\(\\|[0-7]{3})`)
	signature    = regexp.MustCompile(`\+A[^+]*`)
)

// manifestFacts are what a collection says about its manifest.
type manifestFacts struct {
	files int
	size  int64
	names string // one a line, for searching
}

// readManifest checks a manifest as RailsAPI does, with its messages, and
// counts files. It is no more particular than that: ranges beyond the end of a
// stream pass. locator is called for each block locator.
func readManifest(text string, locator func(string) error) (manifestFacts, error) {
	f := manifestFacts{}
	seen := map[string]bool{}
	if text != "" && !strings.HasSuffix(text, "\n") {
		//lint:ignore ST1005 the message is RailsAPI's own
		return f, fmt.Errorf("Invalid manifest: does not end with newline")
	}
	var names strings.Builder
	for number := 1; text != ""; number++ {
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		stream, files, err := readStream(line, locator)
		if invalid, ok := err.(invalidStream); ok {
			//lint:ignore ST1005 the message is RailsAPI's own
			return f, fmt.Errorf("Manifest invalid for stream %d: %s", number, invalid)
		}
		if err != nil {
			return f, err
		}
		for _, file := range files {
			path := stream + "/" + file.name
			f.size += file.size
			if file.name == "." || seen[path] {
				continue
			}
			seen[path] = true
			f.files++
			names.WriteString(strings.TrimPrefix(path, "./") + "\n")
		}
	}
	f.names = names.String()
	return f, nil
}

type invalidStream string

func (e invalidStream) Error() string { return string(e) }

type streamFile struct {
	name string
	size int64
}

func readStream(line string, locator func(string) error) (string, []streamFile, error) {
	words := strings.Split(line, " ")
	if line == "" {
		return "", nil, invalidStream("missing stream name")
	}
	if wideEscape.MatchString(words[0]) {
		return "", nil, invalidStream(fmt.Sprintf(">8-bit encoded chars not allowed on stream token %q", words[0]))
	}
	stream := unescape(words[0])
	if !plainToken.MatchString(words[0]) || !streamName.MatchString(stream) || hasDots(stream[1:]) {
		return "", nil, invalidStream(fmt.Sprintf("missing or invalid stream name %q", words[0]))
	}
	words = words[1:]
	blocks := 0
	for ; len(words) > 0 && locatorToken.MatchString(words[0]); words = words[1:] {
		if err := locator(words[0]); err != nil {
			return "", nil, err
		}
		blocks++
	}
	if blocks == 0 {
		found := ""
		if len(words) > 0 {
			found = fmt.Sprintf("%q", words[0])
		}
		return "", nil, invalidStream("missing or invalid locator " + found)
	}
	var files []streamFile
	for i, word := range words {
		parts := fileToken.FindStringSubmatch(word)
		last := i == len(words)-1
		switch {
		case word == "" && last && i > 0:
			return "", nil, invalidStream("trailing space")
		case wideEscape.MatchString(word):
			return "", nil, invalidStream(fmt.Sprintf(">8-bit encoded chars not allowed on file token %q", word))
		case parts == nil || !plainToken.MatchString(parts[3]):
			return "", nil, invalidStream(fmt.Sprintf("invalid file token %q", word))
		}
		name := unescape(parts[3])
		size, err := strconv.ParseInt(parts[2], 10, 64)
		emptyDir := name == "." && parts[1] == "0" && parts[2] == "0"
		if err != nil || !emptyDir && (!filePath.MatchString(name) || hasDots("/"+name)) {
			return "", nil, invalidStream(fmt.Sprintf("invalid file token %q", word))
		}
		files = append(files, streamFile{name, size})
	}
	if len(files) == 0 {
		return "", nil, invalidStream("no file tokens")
	}
	return stream, files, nil
}

// hasDots tells whether a part of a path, which starts with a slash, is "." or
// "..".
func hasDots(path string) bool {
	return strings.Contains(path+"/", "/./") || strings.Contains(path+"/", "/../")
}

func unescape(token string) string {
	return escape.ReplaceAllStringFunc(token, func(found string) string {
		if found == `\\` {
			return `\`
		}
		n, err := strconv.ParseUint(found[1:], 8, 8)
		if err != nil {
			return found
		}
		return string([]byte{byte(n)})
	})
}

// withoutSignatures is a manifest as it is stored.
func withoutSignatures(text string) string {
	if !strings.Contains(text, "+A") {
		return text
	}
	var out strings.Builder
	for _, line := range strings.SplitAfter(text, "\n") {
		for i, word := range strings.SplitAfter(line, " ") {
			if i > 0 && locatorToken.MatchString(strings.TrimSpace(word)) {
				word = signature.ReplaceAllStringFunc(word, func(found string) string {
					return found[len(strings.TrimRight(found, " \n")):] // keeps the space
				})
			}
			out.WriteString(word)
		}
	}
	return out.String()
}
