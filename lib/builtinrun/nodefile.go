// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

var (
	errNoRegularFile = errors.New("it is not a regular file")
	errSomebodysFile = errors.New("it belongs to another user")
)

// OpenNodeFile opens a file in a folder where every user of the node may make some,
// as in /var/lock. What else may stand there under its name is an error: a FIFO would
// be waited for, whatever signals say, and a link leads to a file that is not meant.
// It creates the file if flag says so.
func OpenNodeFile(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0700)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errNoRegularFile}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readTrusted is the content of such a file if this process's user or root has
// written it.
func readTrusted(path string) ([]byte, error) {
	f, err := OpenNodeFile(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 && int(owner) != os.Geteuid() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errSomebodysFile}
	}
	return io.ReadAll(f)
}
