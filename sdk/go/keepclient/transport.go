// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
)

const (
	// Blocks move in pieces of this size: large enough that system calls
	// cost little beside the MD5 of the data.
	pieceSize = 256 << 10
	// As many blocks as are on their way at once find an open connection.
	idleConnsPerHost = 16
)

// timeouts for one service.
type timeouts struct {
	connect, tls, keepAlive time.Duration
	// patience is how long a transfer may stand still. A limit on the
	// whole transfer would fail healthy ones: several blocks may share a
	// slow network, and a reader may be slow to take the data.
	patience time.Duration
}

// Disks are near; proxies are reached over a slower network.
var (
	diskTimeouts  = timeouts{2 * time.Second, 4 * time.Second, 180 * time.Second, 20 * time.Second}
	proxyTimeouts = timeouts{30 * time.Second, 10 * time.Second, 120 * time.Second, 300 * time.Second}
)

func timeoutsFor(proxies bool) timeouts {
	if proxies {
		return proxyTimeouts
	}
	return diskTimeouts
}

func (kc *KeepClient) httpClient(proxies bool) HTTPClient {
	if kc.HTTPClient != nil {
		return kc.HTTPClient
	}
	kc.mutex.Lock()
	defer kc.mutex.Unlock()
	if kc.pool == nil || kc.poolProxies != proxies {
		limit := timeoutsFor(proxies)
		dialer := &net.Dialer{Timeout: limit.connect, KeepAlive: limit.keepAlive}
		kc.poolProxies = proxies
		kc.pool = &http.Client{Transport: &http.Transport{
			DialContext:         dialer.DialContext,
			TLSHandshakeTimeout: limit.tls,
			TLSClientConfig:     arvadosclient.MakeTLSConfig(kc.Arvados.ApiInsecure),
			MaxIdleConnsPerHost: idleConnsPerHost,
			IdleConnTimeout:     90 * time.Second,
			ReadBufferSize:      pieceSize,
			WriteBufferSize:     pieceSize,
			DisableCompression:  true, // the size of an answer is that of the block
		}}
	}
	return kc.pool
}

// watchdog cancels a request that stands still.
type watchdog struct {
	timer    *time.Timer
	patience time.Duration
	cancel   context.CancelCauseFunc
}

func (kc *KeepClient) watch(ctx context.Context, proxies bool) (context.Context, *watchdog) {
	dog := &watchdog{patience: timeoutsFor(proxies).patience}
	if kc.patience > 0 {
		dog.patience = kc.patience
	}
	ctx, dog.cancel = context.WithCancelCause(ctx)
	dog.timer = time.AfterFunc(dog.patience, func() {
		dog.cancel(fmt.Errorf("nothing received or accepted for %v", dog.patience))
	})
	return ctx, dog
}

// moved says that the other side is alive, or that it is awaited from now on.
func (dog *watchdog) moved() { dog.timer.Reset(dog.patience) }

// pause says that nothing is expected of the other side.
func (dog *watchdog) pause() { dog.timer.Stop() }

func (dog *watchdog) stop() {
	dog.timer.Stop()
	dog.cancel(nil)
}

// send sets the headers of every request to a service.
func (kc *KeepClient) send(req *http.Request, proxies bool, requestID string) (*http.Response, error) {
	req.Header.Set("Authorization", "Bearer "+kc.Arvados.ApiToken)
	req.Header.Set("X-Request-Id", requestID)
	resp, err := kc.httpClient(proxies).Do(req)
	if err != nil {
		return nil, plainError(req.Context(), err)
	}
	return resp, nil
}

// plainError has no URL, which may hold a signature, and says why the watchdog
// has cancelled a request.
func plainError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var withURL *url.Error
	if errors.As(err, &withURL) {
		return withURL.Err
	}
	return err
}

// refusal is what a service says in an answer other than 200, and closes it.
func refusal(resp *http.Response) error {
	defer resp.Body.Close()
	// The text is for people. Where it cannot be read the status must do.
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	message := strings.Join(strings.Fields(string(text)), " ")
	if message == "" {
		message = http.StatusText(resp.StatusCode)
	}
	return fmt.Errorf("%d %s", resp.StatusCode, message)
}

// mayPass tells whether a service may answer otherwise when asked again. A
// full one (507) stays full.
func mayPass(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return true
	case http.StatusInsufficientStorage:
		return false
	}
	return status >= 500
}
