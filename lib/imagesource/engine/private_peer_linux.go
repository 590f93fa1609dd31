// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// daemonPIDs are processes that may be the daemon: who listens at the socket,
// which is the init process when that has made it, and whoever wrote the usual
// file.
func daemonPIDs(ctx context.Context, socket string) (pids []string, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	if peerErr != nil {
		return nil, peerErr
	}
	pids = append(pids, fmt.Sprint(peer.Pid))
	if text, err := os.ReadFile("/run/docker.pid"); err == nil {
		pids = append(pids, string(bytes.TrimSpace(text)))
	}
	return pids, nil
}
