// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registrytest

import (
	"net"
	"net/http"
	"strings"
)

// Behaviour answers a request in place of the registry; serve is what the
// registry would do.
type Behaviour func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc)

type script struct {
	part    string
	next    []Behaviour
	forever bool // the last one stays
}

// Script makes the next requests whose path contains part behave as given, one
// after the other; a nil Behaviour is the usual one. Requests for tokens have
// the path /token. If several scripts fit, the first one with something left
// counts.
func (s *Server) Script(part string, behaviours ...Behaviour) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.scripts = append(s.scripts, &script{part: part, next: behaviours})
}

// Always is Script for all requests from now on.
func (s *Server) Always(part string, behaviour Behaviour) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.scripts = append(s.scripts, &script{part: part, next: []Behaviour{behaviour}, forever: true})
}

func (s *Server) scripted(r *http.Request) Behaviour {
	for _, script := range s.scripts {
		if len(script.next) > 0 && strings.Contains(r.URL.Path, script.part) {
			behaviour := script.next[0]
			if !script.forever {
				script.next = script.next[1:]
			}
			return behaviour
		}
	}
	return nil
}

// Status answers with a status code and headers, given as "Key: value".
func Status(code int, headers ...string) Behaviour {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		for _, header := range headers {
			key, value, _ := strings.Cut(header, ": ")
			w.Header().Set(key, value)
		}
		w.WriteHeader(code)
	}
}

// Refuse answers with an error of the distribution specification.
func Refuse(status int, code, message string) Behaviour {
	return func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) { refuse(w, status, code, message) }
}

// Redirect sends the client to the same path below base, "http://host".
func Redirect(base string) Behaviour {
	return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		http.Redirect(w, r, base+r.URL.Path, http.StatusTemporaryRedirect)
	}
}

// IgnoreRange serves from the start whatever the client asks for.
func IgnoreRange(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	r.Header.Del("Range")
	serve(w, r)
}

// Cut closes the connection after n bytes of the body. All of them arrive.
func Cut(n int64) Behaviour {
	return after(n, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
}

// Reset resets the connection after n bytes of the body, of which the client
// gets some.
func Reset(n int64) Behaviour {
	return after(n, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	})
}

// Stall sends n bytes of the body and then nothing until the client hangs up.
func Stall(n int64) Behaviour {
	return after(n, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
}

// after serves up to n bytes of the body and then ends in the given way. A body
// that is not longer than that is served as it is.
func after(n int64, end func(http.ResponseWriter, *http.Request)) Behaviour {
	return func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		limited := &limited{ResponseWriter: w, left: n}
		defer func() {
			switch e := recover(); e {
			case nil:
			case errEnough:
				end(w, r)
			default:
				panic(e)
			}
		}()
		serve(limited, r)
	}
}

// limited panics with errEnough once left bytes are written and more come.
type limited struct {
	http.ResponseWriter
	left int64
}

type enough struct{}

var errEnough = enough{}

func (l *limited) Write(p []byte) (int, error) {
	if int64(len(p)) <= l.left {
		l.left -= int64(len(p))
		return l.ResponseWriter.Write(p)
	}
	_, _ = l.ResponseWriter.Write(p[:l.left])
	_ = http.NewResponseController(l.ResponseWriter).Flush()
	panic(errEnough)
}
