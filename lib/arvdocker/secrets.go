// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxSecret is the most bytes of a secret, which is a part of the request.
const maxSecret = 500 << 10

// secretID is what a secret may be called: it becomes the end of a path.
var secretID = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// secretMounts are the local files that --secret names as mounts of the request,
// and the flags by which the container finds them there. No error shows what is
// in a file.
func (b *buildFlags) secretMounts() (mounts attrs, words []string, err error) {
	const hint = "write id=NAME,src=FILE"
	mounts = attrs{}
	for _, text := range b.secrets {
		fields, err := csv.NewReader(strings.NewReader(text)).Read()
		if err != nil {
			return nil, nil, wrong("--secret", errors.New("it cannot be read"), hint) // the text may hold a secret by mistake
		}
		var id, source string
		for _, field := range fields {
			switch key, value, _ := strings.Cut(field, "="); strings.ToLower(key) {
			case "id":
				id = value
			case "src", "source":
				source = value
			case "type":
				if value != "file" {
					return nil, nil, wrong("--secret", fmt.Errorf("type %q cannot be had here", value), hint)
				}
			default:
				return nil, nil, wrong("--secret", fmt.Errorf("key %q is unknown", key), hint)
			}
		}
		switch {
		case id == "" || source == "":
			return nil, nil, wrong("--secret", errors.New("it needs both id and src"), hint)
		case !secretID.MatchString(id):
			return nil, nil, wrong("--secret", fmt.Errorf("id %q has characters that an id cannot have", id), "use letters, digits, _, . and -")
		case mounts[secretMounts+id] != nil:
			return nil, nil, wrong("--secret", fmt.Errorf("id %q is there twice", id), hint)
		}
		content, err := readUpTo(source, maxSecret)
		switch {
		case err != nil:
			return nil, nil, wrong("--secret", fmt.Errorf("id %q: %w", id, err), "name a file that you can read")
		case len(content) > maxSecret:
			return nil, nil, wrong("--secret", fmt.Errorf("id %q: the file has more than the %d bytes that are allowed", id, maxSecret), "name a smaller file")
		case !utf8.Valid(content):
			return nil, nil, wrong("--secret", fmt.Errorf("id %q: the file is no text, and a request can hold nothing else", id), "encode it, for example by base64")
		}
		mounts[secretMounts+id] = attrs{"kind": "text", "content": string(content)}
		words = append(words, "--secret", "id="+id+",src="+secretMounts+id)
	}
	return mounts, words, nil
}

// readUpTo is the content of a file, of which no more is read than one byte
// beyond most.
func readUpTo(name string, most int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, most+1))
}
