// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
)

// File is a file of a collection.
type File struct {
	// Path is relative to the collection, "dir/name". A Path that ends in
	// "/" is a directory, which a manifest can name only if it is empty.
	Path     string
	Segments []Segment
}

// Segment is a part of a block.
type Segment struct {
	Locator        string
	Offset, Length int64 // bytes
}

// WholeBlock reports whether the segment is all of its block.
func (s Segment) WholeBlock() bool {
	_, size, err := splitLocator(s.Locator)
	return err == nil && s.Offset == 0 && s.Length == size
}

// Size is the file's length in bytes.
func (f File) Size() int64 {
	var n int64
	for _, s := range f.Segments {
		n += s.Length
	}
	return n
}

// stream is blocks one after the other, which file tokens refer to.
type stream struct {
	blocks []Block
	start  []int64 // of each block
	size   int64
}

func newStream(blocks []Block) *stream {
	s := &stream{}
	for _, b := range blocks {
		s.add(b)
	}
	return s
}

func (s *stream) add(b Block) {
	s.blocks = append(s.blocks, b)
	s.start = append(s.start, s.size)
	s.size += b.Size
}

// find is the index of the block with byte off, len(s.blocks) if there is none.
func (s *stream) find(off int64) int {
	return sort.Search(len(s.blocks), func(i int) bool { return s.start[i]+s.blocks[i].Size > off })
}

// cut is what lies from byte start up to end.
func (s *stream) cut(start, end int64) []Segment {
	var segments []Segment
	for i := s.find(start); i < len(s.blocks) && s.start[i] < end; i++ {
		from, to := max(start, s.start[i]), min(end, s.start[i]+s.blocks[i].Size)
		if from < to {
			segments = append(segments, Segment{Locator: s.blocks[i].Locator, Offset: from - s.start[i], Length: to - from})
		}
	}
	return segments
}

// ParseManifest reads the text of a manifest (the API's manifest_text). Files
// come in the order of their first mention. A path that is mentioned several
// times is one file, put together in that order. The format: Arvados, "Manifest
// format"; what readers there let pass beyond it is accepted here too.
func ParseManifest(text string) ([]File, error) {
	p := &parser{index: map[string]int{}, dirs: map[string]bool{}}
	for number, rest := 1, text; rest != ""; number++ {
		line, after, ended := strings.Cut(rest, "\n")
		err := p.line(line)
		if !ended {
			err = fmt.Errorf("no newline at the end")
		}
		if err != nil {
			return nil, &fault.Error{Op: "read manifest", Side: fault.Keep, Subject: "line " + strconv.Itoa(number), Err: err}
		}
		rest = after
	}
	return p.files, nil
}

type parser struct {
	files []File
	index map[string]int  // of files by path
	dirs  map[string]bool // paths that are directories
}

func (p *parser) line(line string) error {
	tokens := strings.Split(line, " ")
	dir := unescape(tokens[0])
	if dir == "." {
		dir = ""
	} else if rest, ok := strings.CutPrefix(dir, "./"); ok && validPath(rest) {
		dir = rest + "/"
	} else {
		return fmt.Errorf("bad stream name %.100q", tokens[0])
	}
	s, names := &stream{}, 0
	for _, token := range tokens[1:] {
		if names > 0 || strings.Contains(token, ":") {
			names++
			if err := p.token(dir, s, token); err != nil {
				return err
			}
			continue
		}
		_, size, err := splitLocator(token)
		if err != nil {
			return err
		}
		s.add(Block{Locator: token, Size: size})
	}
	if len(s.blocks) == 0 {
		return fmt.Errorf("no locators")
	}
	if names == 0 {
		return fmt.Errorf("no files")
	}
	return nil
}

// token adds the file, or part of one, that a token "position:length:name"
// stands for.
func (p *parser) token(dir string, s *stream, token string) error {
	parts := strings.SplitN(token, ":", 3)
	if len(parts) != 3 || strings.Contains(parts[2], ":") {
		return fmt.Errorf("bad file token %.100q", token)
	}
	start, err1 := strconv.ParseUint(parts[0], 10, 63)
	length, err2 := strconv.ParseUint(parts[1], 10, 63)
	name := unescape(parts[2])
	if err1 != nil || err2 != nil || !validPath(name) && name != "." {
		return fmt.Errorf("bad file token %.100q", token)
	}
	if start > uint64(s.size) || length > uint64(s.size)-start {
		return fmt.Errorf("file token %.100q reaches beyond the %d bytes of the stream", token, s.size)
	}
	path := dir + name
	if name == "." { // marks an empty directory
		if length > 0 {
			return fmt.Errorf("file token %.100q names a directory", token)
		}
		path = dir
	}
	if err := p.directories(path); err != nil {
		return err
	}
	if path == "" {
		return nil // the collection itself
	}
	i, known := p.index[path]
	if !known {
		i = len(p.files)
		p.index[path] = i
		p.files = append(p.files, File{Path: path})
	}
	p.files[i].Segments = append(p.files[i].Segments, s.cut(int64(start), int64(start+length))...)
	return nil
}

// directories notes the directories of path, and refuses what is a file in one
// place and a directory in another.
func (p *parser) directories(path string) error {
	for i := range path {
		if path[i] != '/' {
			continue
		}
		if _, isFile := p.index[path[:i]]; isFile {
			return fmt.Errorf("%.100q is a file and a directory", path[:i])
		}
		p.dirs[path[:i]] = true
	}
	if p.dirs[path] {
		return fmt.Errorf("%.100q is a file and a directory", path)
	}
	return nil
}

// validPath reports whether all parts of path are proper names.
func validPath(path string) bool {
	for _, part := range strings.Split(path, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}
