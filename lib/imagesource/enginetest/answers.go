// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package enginetest

import (
	"encoding/json"
	"net/http"
)

// Error is the answer with which an engine refuses: a status and a message.
func Error(status int, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		reply(w, status, map[string]string{"message": message})
	}
}

// Stream answers with status 200 and the given lines, and ends as if all were
// well.
func Stream(lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		for _, line := range lines {
			_, _ = w.Write([]byte(line + "\r\n"))
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// Cut is Stream with the connection lost after the last line, as when the
// engine dies.
func Cut(lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		Stream(lines...)(w, req)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// Then answers and goes on to do something else, before the answer ends.
func Then(answer http.HandlerFunc, do func(*http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		answer(w, req)
		_ = http.NewResponseController(w).Flush()
		do(req)
	}
}

// Failure is the line by which an engine reports an error in a stream.
func Failure(message string) string {
	detail := struct {
		ErrorDetail struct {
			Message string `json:"message"`
		} `json:"errorDetail"`
		Error string `json:"error"`
	}{Error: message}
	detail.ErrorDetail.Message = message
	line, err := json.Marshal(detail)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(line)
}

// Pulling is how the stream of a pull begins: a layer that is half there.
var Pulling = []string{
	`{"status":"Pulling from app","id":"1"}`,
	`{"status":"Pulling fs layer","progressDetail":{},"id":"4b481de2e3b2"}`,
	`{"status":"Downloading","progressDetail":{"current":538089,"total":20978107},"progress":"[>      ]  538.1kB/20.98MB","id":"4b481de2e3b2"}`,
	`{"status":"Downloading","progressDetail":{"current":10489053,"total":20978107},"progress":"[=====> ]  10.49MB/20.98MB","id":"4b481de2e3b2"}`,
}

// Pulled is how the stream of a pull of the given image ends.
func Pulled(name, digest string) []string {
	return []string{
		`{"status":"Download complete","progressDetail":{},"id":"4b481de2e3b2"}`,
		`{"status":"Extracting","progressDetail":{"current":1,"units":"s"},"progress":"1 s","id":"4b481de2e3b2"}`,
		`{"status":"Pull complete","progressDetail":{},"id":"4b481de2e3b2"}`,
		`{"status":"Digest: ` + digest + `"}`,
		`{"status":"Status: Downloaded newer image for ` + name + `"}`,
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
