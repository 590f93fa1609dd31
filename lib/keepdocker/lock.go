// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// LockDir is the folder in which arv-keepdocker has its locks: the Python tool's,
// so that the two wait for each other. getenv is like os.Getenv. It is "" if the
// environment names no folder for it.
func LockDir(getenv func(string) string) string {
	if dirs := filepath.SplitList(getenv("CACHE_DIRECTORY")); len(dirs) > 0 {
		return filepath.Join(dirs[0], "docker")
	}
	base := getenv("XDG_CACHE_HOME")
	if !filepath.IsAbs(base) {
		if getenv("HOME") == "" {
			return ""
		}
		base = filepath.Join(getenv("HOME"), ".cache")
	}
	return filepath.Join(base, "arvados", "docker")
}

// lockPause is the time between two attempts to get a lock.
const lockPause = 100 * time.Millisecond

// lock waits until no other arv-keepdocker of this host brings the image in. The
// file stays: whoever waits for it holds it open.
func (s *session) lock(ctx context.Context, id string) (unlock func(), err error) {
	if s.LockDir == "" {
		return nil, lockFault("folder", errors.New("HOME is not set"))
	}
	if err := os.MkdirAll(s.LockDir, 0700); err != nil {
		return nil, lockFault(s.LockDir, err)
	}
	path := filepath.Join(s.LockDir, id+".tar.lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0666)
	if err != nil {
		return nil, lockFault(path, err)
	}
	// Not by a call that waits: nothing could interrupt it.
	for told := false; ; told = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, lockFault(path, err)
		}
		if !told {
			s.say("waiting for another arv-keepdocker that brings this image in")
		}
		select {
		case <-time.After(lockPause):
		case <-ctx.Done():
			file.Close()
			return nil, context.Cause(ctx)
		}
	}
}

func lockFault(path string, err error) error {
	return wrong("lock "+path, err, "make the folder writable for you, or set XDG_CACHE_HOME to one that is")
}
