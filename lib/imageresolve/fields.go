// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imageresolve

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/url"
	"slices"
	"strings"
)

// message is a text with named values, of which one can be replaced without a
// change to any other byte: numbers stay as they were written.
type message struct {
	raw    []byte
	fields []field
}

// field is one value, and where it stands.
type field struct {
	name       string
	value      string
	isText     bool // and no JSON that is written as such
	start, end int
	encode     func(value string) string
}

// last is the field that counts when several have a name, as for the API
// server; nil if none has it.
func (m message) last(name string) *field {
	for _, f := range slices.Backward(m.fields) {
		if f.name == name {
			return &f
		}
	}
	return nil
}

// text is the value of a field that is text, "" if there is none.
func (m message) text(name string) string {
	if f := m.last(name); f != nil && f.isText {
		return f.value
	}
	return ""
}

// with is the message with another value in one of its fields.
func (m message) with(f *field, value string) []byte {
	return slices.Concat(m.raw[:f.start], []byte(f.encode(value)), m.raw[f.end:])
}

// readObject reads an object in JSON.
func readObject(raw []byte) (message, error) {
	m := message{raw: raw}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return m, errors.Join(errors.New("not an object"), err)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return m, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return m, err
		}
		end := int(dec.InputOffset())
		f := field{name: key.(string), value: string(value), start: end - len(value), end: end, encode: func(s string) string { return s }}
		if value[0] == '"' {
			f.isText, f.encode = true, quote
			if err := json.Unmarshal(value, &f.value); err != nil {
				return m, err
			}
		}
		m.fields = append(m.fields, f)
	}
	if _, err := dec.Token(); err != nil {
		return m, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return m, errors.New("more than an object")
	}
	return m, nil
}

// quote is a string in JSON.
func quote(s string) string {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.Encode(s) // strings always can be
	return strings.TrimSuffix(out.String(), "\n")
}

// readForm reads a form as in URLs. What is no field is nobody's business here.
func readForm(raw string) message {
	m := message{raw: []byte(raw)}
	start := 0
	for pair := range strings.SplitSeq(raw, "&") {
		key, value, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(key)
		text, err2 := url.QueryUnescape(value)
		end := start + len(pair)
		if err1 == nil && err2 == nil {
			m.fields = append(m.fields, field{name: name, value: text, isText: true, start: end - len(value), end: end, encode: url.QueryEscape})
		}
		start = end + 1
	}
	return m
}

// readParts reads a form of several parts.
func readParts(raw []byte, boundary string) (message, error) {
	m := message{raw: raw}
	if boundary == "" {
		return m, errors.New("no boundary")
	}
	at := 0 // all before has been read
	for parts := multipart.NewReader(bytes.NewReader(raw), boundary); ; {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return m, nil
		}
		if err != nil {
			return m, err
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return m, err
		}
		// The reader does not tell where it is: after the next boundary
		// and an empty line.
		line := bytes.Index(raw[at:], []byte("--"+boundary))
		if line < 0 {
			return m, errors.New("part without boundary")
		}
		header := bytes.Index(raw[at+line:], []byte("\r\n\r\n"))
		start := at + line + header + len("\r\n\r\n")
		if header < 0 || !bytes.HasPrefix(raw[start:], value) {
			return m, errors.New("part without header")
		}
		at = start + len(value)
		if part.Header.Get("Content-Transfer-Encoding") == "" {
			m.fields = append(m.fields, field{name: part.FormName(), value: string(value), isText: true,
				start: start, end: at, encode: func(s string) string { return s }})
		}
	}
}
