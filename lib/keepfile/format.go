// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ManifestText is the manifest of a collection with one file, at top level,
// that consists of blocks. It has one file token whatever the blocks are:
// programs that guess a collection's size from the length of its manifest, and
// the rule that equal images have equal manifests, depend on that.
func ManifestText(name string, blocks []Block) string {
	var text strings.Builder
	text.WriteString(".")
	var size int64
	for _, b := range blocks {
		text.WriteString(" " + b.Locator)
		size += b.Size
	}
	if len(blocks) == 0 {
		text.WriteString(" " + emptyLocator)
	}
	fmt.Fprintf(&text, " 0:%d:%s\n", size, escape(name))
	return text.String()
}

// FormatManifest is the manifest of files as the Go SDK of Arvados writes it
// (on the order of lines and tokens depends the portable data hash): the files
// of a directory sorted by name, then its directories, each with all that is
// in it. Several files of the same path become one. Segments must have
// locators of ParseManifest or of a Writer.
func FormatManifest(files []File) string {
	root := &directory{}
	for _, f := range files {
		root.add(strings.Split(strings.TrimPrefix(f.Path, "./"), "/"), f.Segments)
	}
	var text strings.Builder
	root.format(&text, ".")
	return text.String()
}

type directory struct {
	files map[string][]Segment
	dirs  map[string]*directory
}

func (d *directory) add(path []string, segments []Segment) {
	if d.files == nil {
		d.files, d.dirs = map[string][]Segment{}, map[string]*directory{}
	}
	name := path[0]
	switch {
	case len(path) > 1:
		if d.dirs[name] == nil {
			d.dirs[name] = &directory{}
		}
		d.dirs[name].add(path[1:], segments)
	case name != "": // else this is the directory of a path with "/" at its end
		d.files[name] = slices.Concat(d.files[name], segments)
	}
}

func (d *directory) format(text *strings.Builder, name string) {
	switch {
	case len(d.files) > 0:
		d.formatFiles(text, name)
	case len(d.dirs) == 0 && name != ".":
		fmt.Fprintf(text, "%s %s 0:0:\\056\n", escape(name), emptyLocator)
	}
	for _, dir := range sortedKeys(d.dirs) {
		d.dirs[dir].format(text, name+"/"+dir)
	}
}

func (d *directory) formatFiles(text *strings.Builder, dir string) {
	var locators, tokens []string
	var start, size int64 // of the last locator's block in the stream
	for _, name := range sortedKeys(d.files) {
		var from, length int64 // of the token to come
		for _, s := range d.files[name] {
			if len(locators) == 0 || locators[len(locators)-1] != s.Locator {
				_, blockSize, err := splitLocator(s.Locator)
				if err != nil {
					panic("keepfile: " + err.Error())
				}
				locators = append(locators, s.Locator)
				start, size = start+size, blockSize
			}
			if length > 0 && from+length != start+s.Offset {
				tokens = append(tokens, fileToken(from, length, name))
				length = 0
			}
			if length == 0 {
				from = start + s.Offset
			}
			length += s.Length
		}
		tokens = append(tokens, fileToken(from, length, name))
	}
	if len(locators) == 0 {
		locators = []string{emptyLocator}
	}
	fmt.Fprintf(text, "%s %s %s\n", escape(dir), strings.Join(locators, " "), strings.Join(tokens, " "))
}

func fileToken(from, length int64, name string) string {
	return fmt.Sprintf("%d:%d:%s", from, length, escape(name))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// escape writes what would end a name in a manifest, the escape character itself,
// and bytes that are not UTF-8, which JSON cannot carry, as a backslash and three
// octal digits.
func escape(name string) string {
	var text strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if c := name[i]; c <= ' ' || c == ':' || c == '\\' || r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&text, `\%03o`, c)
		} else {
			text.WriteString(name[i : i+n])
		}
		i += n
	}
	return text.String()
}

// unescape undoes escape. It also takes two backslashes for one, and leaves
// what is no escape as it is.
func unescape(name string) string {
	if !strings.Contains(name, `\`) {
		return name
	}
	var text strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && i+1 < len(name) && name[i+1] == '\\' {
			i++
		} else if name[i] == '\\' && i+3 < len(name) && isOctal(name[i+1:i+4]) {
			if c, err := strconv.ParseUint(name[i+1:i+4], 8, 8); err == nil {
				text.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		text.WriteByte(name[i])
	}
	return text.String()
}

func isOctal(digits string) bool {
	return strings.Trim(digits, "01234567") == ""
}

// splitLocator is hash and size of a locator with or without hints. Its errors
// do not repeat hints: a signature is a secret.
func splitLocator(locator string) (hash string, size int64, err error) {
	hash, rest, _ := strings.Cut(locator, "+")
	digits, _, _ := strings.Cut(rest, "+")
	size, err = strconv.ParseInt(digits, 10, 64)
	if err != nil || size < 0 || size > BlockSize || len(hash) != 32 || strings.Trim(hash, "0123456789abcdef") != "" {
		return "", 0, fmt.Errorf("bad locator %.50q", hash+"+"+digits)
	}
	return hash, size, nil
}
