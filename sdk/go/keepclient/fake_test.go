// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	. "gopkg.in/check.v1"
)

func Test(t *testing.T) { TestingT(t) }

const (
	fooHash = "acbd18db4cc2f85cedef654fccc4a4d8"
	foo     = fooHash + "+3"
	// Bytes 0, 1, … 255, 0, …: more than one piece of them.
	longSize = pieceSize*3 + 17
	token    = "v2/zzzzz-gj3su-000000000000001/secret"
)

var long = func() []byte {
	data := make([]byte, longSize)
	for i := range data {
		data[i] = byte(i)
	}
	return data
}()

func locatorOf(data []byte) string {
	return fmt.Sprintf("%x+%d", md5.Sum(data), len(data))
}

// reply is what a fake service does with one request.
type reply struct {
	status   int    // 0 for 200, lost for a broken connection, hang for none
	text     string // of a refusal, or of a PUT's answer in place of the locator
	replicas string // header of a PUT's answer
	classes  string // header of a PUT's answer
	data     []byte // of a GET's answer
	cut      int    // break off after so many bytes of it
	chunked  bool   // do not tell its length
	early    bool   // answer a PUT before its body has come
}

const (
	lost = -1
	hang = -2
)

// seen is a request as a service has got it.
type seen struct {
	method, path string
	header       http.Header
	length       int64
	body         []byte
}

// fakeKeep is a Keep service that follows a script; the last reply holds for
// all further requests.
type fakeKeep struct {
	*httptest.Server
	uuid   string
	mutex  sync.Mutex
	script []reply
	seen   []seen
}

func (fake *fakeKeep) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fake.mutex.Lock()
	at := len(fake.seen)
	say := fake.script[min(at, len(fake.script)-1)]
	fake.seen = append(fake.seen, seen{method: r.Method, path: r.URL.Path, header: r.Header, length: r.ContentLength})
	fake.mutex.Unlock()
	if !say.early {
		body, _ := io.ReadAll(r.Body)
		fake.mutex.Lock()
		fake.seen[at].body = body
		fake.mutex.Unlock()
	}
	switch {
	case say.status == lost:
		panic(http.ErrAbortHandler)
	case say.status == hang:
		<-r.Context().Done()
	case say.status != 0:
		w.WriteHeader(say.status)
		io.WriteString(w, say.text)
	case r.Method == "PUT":
		fake.confirm(w, r, say)
	default:
		fake.give(w, r, say)
	}
}

func (fake *fakeKeep) confirm(w http.ResponseWriter, r *http.Request, say reply) {
	if say.replicas != "" {
		w.Header().Set(XKeepReplicasStored, say.replicas)
	}
	if say.classes != "" {
		w.Header().Set(XKeepStorageClassesConfirmed, say.classes)
	}
	if say.text == "" {
		say.text = fmt.Sprintf("%s+%d+Asigned-by-%s@ffffffff\n", r.URL.Path[1:], r.ContentLength, fake.uuid[12:])
	}
	io.WriteString(w, say.text)
}

func (fake *fakeKeep) give(w http.ResponseWriter, r *http.Request, say reply) {
	if say.text != "" {
		w.Header().Set(XKeepLocator, say.text)
	}
	if say.chunked {
		w.(http.Flusher).Flush()
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(len(say.data)))
	}
	if say.cut > 0 {
		w.Write(say.data[:say.cut])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	if r.Method != "HEAD" {
		w.Write(say.data)
	}
}

func (fake *fakeKeep) requests() []seen {
	fake.mutex.Lock()
	defer fake.mutex.Unlock()
	return append([]seen(nil), fake.seen...)
}

// cluster is a client and fake services, in the order in which the client
// tries them for a certain block.
type cluster struct {
	*KeepClient
	fakes []*fakeKeep
}

// newCluster has one service for each script.
func newCluster(hash string, kind string, scripts ...[]reply) *cluster {
	cl := &cluster{KeepClient: &KeepClient{
		Arvados:       &arvadosclient.ArvadosClient{ApiToken: token},
		Want_replicas: 2,
		Retries:       2,
		RetryDelay:    time.Microsecond,
		RequestID:     "req-test",
	}}
	byRoot := map[string]*fakeKeep{}
	items := ""
	for i := range scripts {
		fake := &fakeKeep{uuid: fmt.Sprintf("zzzzz-bi6l4-%015d", i)}
		fake.Server = httptest.NewServer(fake)
		byRoot[fake.URL] = fake
		var port int
		fmt.Sscanf(fake.URL, "http://127.0.0.1:%d", &port)
		items += fmt.Sprintf(`,{"uuid":%q,"service_host":"127.0.0.1","service_port":%d,"service_type":%q}`, fake.uuid, port, kind)
	}
	if err := cl.LoadKeepServicesFromJSON(`{"items":[` + items[1:] + `]}`); err != nil {
		panic(err)
	}
	for i, root := range NewRootSorter(cl.LocalRoots(), hash).GetSortedRoots() {
		fake := byRoot[root]
		fake.script = scripts[i]
		cl.fakes = append(cl.fakes, fake)
	}
	return cl
}

func (cl *cluster) close() {
	for _, fake := range cl.fakes {
		fake.Close()
	}
	if cl.pool != nil {
		cl.pool.CloseIdleConnections()
	}
}

// counts is how many requests each service got.
func (cl *cluster) counts() []int {
	var n []int
	for _, fake := range cl.fakes {
		n = append(n, len(fake.requests()))
	}
	return n
}
