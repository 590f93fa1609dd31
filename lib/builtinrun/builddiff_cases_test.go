// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/check.v1"
)

// recipe is one file of testdata/dockerfiles: a build, and what is known about
// how it ends. The file begins with words for people. Lines "key: value" among
// them are
//
//	flags    JSON list of words for docker build, without the context
//	secret   PATH=CONTENT of a secret mount; flags name it as src=PATH
//	mounts   "text" if the files are text mounts; else they are a collection
//	fails    both builds fail; a pattern for our error
//	either   as fails, but some engines take it: ours fails if docker does
//	docker   a pattern for docker's error, on engines where only ours works
//	refused  we refuse what docker takes; a pattern for our error
//
// The files of the build context follow, each below a line "-- NAME --". A name
// in double quotes is a literal of Go; one with a slash at its end is a folder.
// Other forms are "-- NAME | tar --" and "-- NAME | gzip --" (an archive; see
// archive), "-- NAME | files 100 --" (a folder of so many), and
// "-- NAME | bytes --" (the content is a literal of Go).
type recipe struct {
	name       string
	flags      []string
	secretPath string
	secret     string
	text       bool
	fails      string
	either     string
	docker     string
	refused    string
	files      map[string]string // also folders that are empty, as "name/"
}

// localNames are images in recipes and flags: the base of all, what is built
// first, and what is built.
var localNames = regexp.MustCompile(`\blocal/(base|first|out)\b`)

var (
	fileLine = regexp.MustCompile(`^-- (.+?)(?: \| (\w+)(?: (\d+))?)? --$`)
	keyLine  = regexp.MustCompile(`^([a-z]+): (.*)$`)
)

// readRecipes reads all of them. Names of images get the prefix, so that no
// other image on the engine is touched.
func readRecipes(c *check.C, prefix string) (all []recipe) {
	names, err := filepath.Glob("testdata/dockerfiles/*.txt")
	c.Assert(err, check.IsNil)
	for _, name := range names {
		content, err := os.ReadFile(name)
		c.Assert(err, check.IsNil)
		r := recipe{name: strings.TrimSuffix(filepath.Base(name), ".txt")}
		c.Assert(r.parse(localNames.ReplaceAllString(string(content), prefix+"/$1")), check.IsNil, check.Commentf(name))
		all = append(all, r)
	}
	return all
}

func (r *recipe) parse(content string) error {
	r.files = map[string]string{}
	var header []string
	var body strings.Builder
	end := func() error {
		if header == nil {
			return nil
		}
		return r.add(header[1], header[2], header[3], body.String())
	}
	for _, line := range strings.SplitAfter(content, "\n") {
		bare := strings.TrimSuffix(line, "\n")
		if m := fileLine.FindStringSubmatch(bare); m != nil {
			if err := end(); err != nil {
				return err
			}
			header = m
			body.Reset()
		} else if header != nil {
			body.WriteString(line)
		} else if m := keyLine.FindStringSubmatch(bare); m != nil {
			if err := r.set(m[1], m[2]); err != nil {
				return err
			}
		}
	}
	return end()
}

func (r *recipe) set(key, value string) error {
	switch key {
	case "flags":
		return json.Unmarshal([]byte(value), &r.flags)
	case "secret":
		r.secretPath, r.secret, _ = strings.Cut(value, "=")
	case "mounts":
		r.text = value == "text"
	case "fails":
		r.fails = value
	case "either":
		r.either = value
	case "docker":
		r.docker = value
	case "refused":
		r.refused = value
	default:
		return fmt.Errorf("unknown key %q", key)
	}
	return nil
}

// add adds a file or what else a header stands for.
func (r *recipe) add(name, form, number, body string) (err error) {
	if strings.HasPrefix(name, `"`) {
		if name, err = strconv.Unquote(name); err != nil {
			return err
		}
	}
	switch form {
	case "":
	case "bytes":
		body, err = strconv.Unquote(strings.TrimSpace(body))
	case "tar":
		body, err = archive(body)
	case "gzip":
		if body, err = archive(body); err == nil {
			var packed bytes.Buffer
			w := gzip.NewWriter(&packed)
			w.Write([]byte(body))
			w.Close()
			body = packed.String()
		}
	case "files":
		n, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		for i := range n {
			r.files[fmt.Sprintf("%s%d/%d", name, i%100, i)] = fmt.Sprintln(i)
		}
		return nil
	default:
		return fmt.Errorf("unknown form %q", form)
	}
	r.files[name] = body
	return err
}

// memberTypes are the first words of lines of an archive.
var memberTypes = map[string]byte{
	"file": tar.TypeReg, "dir": tar.TypeDir, "sym": tar.TypeSymlink, "hard": tar.TypeLink, "fifo": tar.TypeFifo, "char": tar.TypeChar,
	"caps": tar.TypeReg,
}

// capNetRaw is a file capability as the kernel stores it, version 2: permitted
// and effective CAP_NET_RAW.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// archive makes a tar of lines "TYPE MODE UID GID NAME [REST]". REST is the
// content of a file and the target of a link. A file of the type caps may have
// raw sockets.
func archive(lines string) (string, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		words := append(strings.SplitN(line, " ", 6), "")
		if len(words) < 6 || memberTypes[words[0]] == 0 {
			return "", fmt.Errorf("not a line of an archive: %q", line)
		}
		h := tar.Header{Typeflag: memberTypes[words[0]], Name: words[4]}
		if _, err := fmt.Sscanf(strings.Join(words[1:4], " "), "%o %d %d", &h.Mode, &h.Uid, &h.Gid); err != nil {
			return "", fmt.Errorf("%q: %w", line, err)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			h.Size = int64(len(words[5]))
		case tar.TypeChar:
			h.Devmajor, h.Devminor = 1, 3 // /dev/null
		default:
			h.Linkname = words[5]
		}
		if words[0] == "caps" {
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capNetRaw}
		}
		if err := w.WriteHeader(&h); err != nil {
			return "", err
		}
		if h.Typeflag == tar.TypeReg {
			w.Write([]byte(words[5]))
		}
	}
	err := w.Close()
	return out.String(), err
}
