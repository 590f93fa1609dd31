// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package localkeep is the Keep service of the embedded cluster: blocks of up
// to 64 MiB as files in one folder, by the protocol of Arvados's keepstore.
// Locators are signed for the token that wrote or may read a block; any token
// may write, as with keepstore. It has every storage class that a client asks
// for, all of them in the one folder. It never deletes a block, and never asks
// the API server about anything.
package localkeep

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Config is what a service needs to know.
type Config struct {
	Dir            string // of the blocks; made if it is not there
	BlobSigningKey string // shared with the API server
	BlobSigningTTL time.Duration
}

// Handler answers keepstore's requests.
type Handler struct {
	volume volume
	key    []byte
	ttl    time.Duration
}

// New opens the folder and removes what a killed predecessor left unfinished.
func New(cfg Config) (*Handler, error) {
	v, err := openVolume(cfg.Dir)
	if err != nil {
		return nil, err
	}
	return &Handler{volume: v, key: []byte(cfg.BlobSigningKey), ttl: cfg.BlobSigningTTL}, nil
}

const maxBlock = 64 << 20

var locatorPattern = regexp.MustCompile(`^/([0-9a-f]{32})(\+.*)?$`)

// ServeHTTP answers PUT /HASH, and GET and HEAD /LOCATOR.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := bearer(r)
	match := locatorPattern.FindStringSubmatch(r.URL.Path)
	switch {
	case match == nil:
		http.Error(w, "not a block locator", http.StatusBadRequest)
	case token == "":
		http.Error(w, "no token", http.StatusUnauthorized)
	case r.Method == http.MethodPut:
		h.put(w, r, match[1], token)
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		h.get(w, r, match[1], token)
	default:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

// bearer is the token of a request; OAuth2 is what older clients write.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme != "Bearer" && scheme != "OAuth2" {
		return ""
	}
	return strings.TrimSpace(token)
}

// storageClasses are those that a request to write asks for; "default" where it does
// not say.
func storageClasses(r *http.Request) (classes []string) {
	for _, class := range strings.Split(r.Header.Get("X-Keep-Storage-Classes"), ",") {
		if class = strings.TrimSpace(class); class != "" {
			classes = append(classes, class)
		}
	}
	if classes == nil {
		return []string{"default"}
	}
	return classes
}

func (h *Handler) put(w http.ResponseWriter, r *http.Request, hash, token string) {
	switch {
	case r.ContentLength < 0:
		http.Error(w, "no Content-Length", http.StatusLengthRequired)
		return
	case r.ContentLength > maxBlock:
		http.Error(w, "block is larger than 64 MiB", http.StatusRequestEntityTooLarge)
		return
	}
	switch err := h.volume.write(hash, r.Body, r.ContentLength); {
	case errors.Is(err, errMismatch):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		http.Error(w, "full", http.StatusInsufficientStorage)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		w.Header().Set("X-Keep-Replicas-Stored", "1")
		w.Header().Set("X-Keep-Storage-Classes-Confirmed", strings.Join(storageClasses(r), "=1, ")+"=1")
		locator := fmt.Sprintf("%s+%d", hash, r.ContentLength)
		fmt.Fprintln(w, arvados.SignLocator(locator, token, time.Now().Add(h.ttl), h.ttl, h.key))
	}
}

func (h *Handler) get(w http.ResponseWriter, r *http.Request, hash, token string) {
	switch err := arvados.VerifySignature(r.URL.Path[1:], token, h.ttl, h.key); {
	case errors.Is(err, arvados.ErrSignatureExpired):
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f, err := os.Open(h.volume.path(hash))
	if errors.Is(err, os.ErrNotExist) {
		http.Error(w, "block not found", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}

// path is the file of a block.
func (v volume) path(hash string) string {
	return filepath.Join(string(v), hash[:3], hash)
}
