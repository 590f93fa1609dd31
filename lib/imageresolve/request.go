// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imageresolve

import (
	"bytes"
	"context"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
)

const (
	// maxBody is how large a request may be for its image to be resolved.
	// Requests hold whole workflows in their mounts, which are below a
	// megabyte each.
	maxBody = 8 << 20
	// resolveTimeout is how long a client waits at most before its request
	// is passed on.
	resolveTimeout = 10 * time.Second
)

var (
	requestPath = regexp.MustCompile(`^/arvados/v1/container_requests(/[^/]+)?/?$`)
	// own are names that need no resolving: portable data hashes, with any
	// hints, and the image of builtin commands, which the site has pinned.
	own = regexp.MustCompile(`^([0-9a-f]{32}(\+.*)?|arvados/(builtin|none)(:latest)?)?$`)
	// changing are the methods that make and change records.
	changing = []string{http.MethodPost, http.MethodPut, http.MethodPatch}
)

// resolved is a request with the portable data hash of its image, or the same
// request.
func (h *Handler) resolved(r *http.Request) *http.Request {
	if !slices.Contains(changing, r.Method) || !requestPath.MatchString(r.URL.Path) ||
		r.Header.Get("Content-Encoding") != "" || r.ContentLength > maxBody {
		return r
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	same := r.WithContext(r.Context()) // a copy
	same.Body = rest{io.MultiReader(bytes.NewReader(body), r.Body), r.Body}
	if err != nil || len(body) > maxBody {
		return same
	}
	p := parse(r, body)
	if p == nil {
		return same
	}
	pdh := h.find(r, p)
	if pdh == "" {
		return same
	}
	query, changed := p.apply(r.URL.RawQuery, pdh)
	target := *r.URL
	target.RawQuery = query
	same.URL = &target
	if !p.inQuery {
		same.Body = rest{strings.NewReader(changed), r.Body}
		same.ContentLength, same.TransferEncoding = int64(len(changed)), nil
	}
	return same
}

// rest is what of a body is to be passed on.
type rest struct {
	io.Reader
	io.Closer
}

// parsed is a request that names an image.
type parsed struct {
	token   string  // whose it is
	record  message // attributes of the container request
	field   *field  // of outer that holds the record; nil if it is the whole body
	outer   message
	inQuery bool // outer is the query and not the body
}

// parse reads a request as controller does; nil if it names no image that is to
// be resolved. A record is under its name, as an object or as JSON in text, or
// it is all of a body in JSON.
func parse(r *http.Request, body []byte) *parsed {
	query := readForm(r.URL.RawQuery)
	p := &parsed{}
	contentType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err == nil && contentType == "application/x-www-form-urlencoded":
		p.outer = readForm(string(body))
	case err == nil && contentType == "multipart/form-data":
		p.outer, err = readParts(body, params["boundary"])
	case len(body) > 0:
		p.outer, err = readObject(body)
		p.record = p.outer
	default:
		err = nil
	}
	if err != nil {
		return nil
	}
	first := func(name string) string { // the body goes before the query
		if text := p.outer.text(name); text != "" {
			return text
		}
		return query.text(name)
	}
	method := strings.ToUpper(r.Header.Get("X-Http-Method-Override"))
	if method == "" {
		method = strings.ToUpper(first("_method"))
	}
	if method != "" && !slices.Contains(changing, method) {
		return nil
	}
	p.token = first("api_token")
	if scheme, sent, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && (scheme == "Bearer" || scheme == "OAuth2") {
		p.token = strings.TrimSpace(sent)
	}
	p.field = p.outer.last("container_request")
	if p.field == nil && query.last("container_request") != nil {
		p.outer, p.field, p.inQuery = query, query.last("container_request"), true
	}
	if p.field != nil && p.field.value != "null" {
		if p.record, err = readObject([]byte(p.field.value)); err != nil {
			return nil
		}
	} else {
		p.field, p.inQuery = nil, false
	}
	// Arvados resolves names for the user of this token if there is one.
	if token := p.record.text("runtime_token"); token != "" {
		p.token = token
	}
	if own.MatchString(p.record.text("container_image")) || p.token == "" {
		return nil
	}
	return p
}

// apply is the request's query and body with its image named by hash. The body
// is not of interest where the record is in the query.
func (p *parsed) apply(query, pdh string) (newQuery, newBody string) {
	record := string(p.record.with(p.record.last("container_image"), pdh))
	switch {
	case p.inQuery:
		return string(p.outer.with(p.field, record)), ""
	case p.field != nil:
		return query, string(p.outer.with(p.field, record))
	}
	return query, record
}

// find is the portable data hash of the image, "" if it cannot be found.
func (h *Handler) find(r *http.Request, p *parsed) string {
	name := p.record.text("container_image")
	ctx, cancel := context.WithTimeout(r.Context(), resolveTimeout)
	defer cancel()
	log := h.cfg.Log.WithField("request", r.Header.Get("X-Request-Id"))
	found, err := dockerimage.Resolve(ctx, h.client(p.token, r.Header.Get("X-Request-Id")), name, h.cfg.Policy)
	switch {
	case fault.SideOf(err) == fault.Request: // the API server says so in its own way
		log.Debugf("left to the API server: %v", err)
		return ""
	case err != nil:
		log.Warnf("left to the API server: %v", err)
		return ""
	}
	log.Infof("image %q is %s, collection %s of %s", name, found.PDH, found.UUID, found.OwnerUUID)
	return found.PDH
}
