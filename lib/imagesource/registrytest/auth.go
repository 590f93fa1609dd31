// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// auth is what the server wants of its clients.
type auth struct {
	scheme         string // "", "basic" or "bearer"
	user, password string
	tokens         int  // given out
	expired        bool // the last one is no longer good
}

// RequireBasic makes the server want a user name and password.
func (s *Server) RequireBasic(user, password string) {
	s.setAuth(auth{scheme: "basic", user: user, password: password})
}

// RequireBearer makes the server want tokens, which it gives out below /token
// to this user; to everybody if user is empty. The password is good as an
// identity token, too.
func (s *Server) RequireBearer(user, password string) {
	s.setAuth(auth{scheme: "bearer", user: user, password: password})
}

func (s *Server) setAuth(a auth) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.auth = a
}

// ExpireTokens makes all tokens that were given out so far bad.
func (s *Server) ExpireTokens() {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.auth.expired = true
}

// authorized checks a request and answers it if it may not go on.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request) bool {
	s.mtx.Lock()
	a := s.auth
	s.mtx.Unlock()
	user, password, _ := r.BasicAuth()
	switch a.scheme {
	case "":
		return true
	case "basic":
		if user == a.user && password == a.password {
			return true
		}
		w.Header().Set("Www-Authenticate", `Basic realm="registrytest"`)
	case "bearer":
		if r.Header.Get("Authorization") == "Bearer "+token(a.tokens) && !a.expired {
			return true
		}
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="registrytest"`, s.URL()))
	}
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	refresh := r.PostFormValue("refresh_token")
	s.mtx.Lock()
	good := s.auth.user == "" || user == s.auth.user && password == s.auth.password || refresh == s.auth.password
	if good {
		s.auth.tokens++
		s.auth.expired = false
	}
	current := token(s.auth.tokens)
	s.mtx.Unlock()
	if !good {
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token": current, "expires_in": 300})
}

func token(n int) string { return fmt.Sprintf("registrytest-token-%d", n) }
