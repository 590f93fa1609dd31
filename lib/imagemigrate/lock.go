// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"errors"
	"io"
	"os"
	"syscall"

	"git.arvados.org/arvados.git/lib/fault"
)

// lock takes a file for this program, syscall.LOCK_EX, or for all that only read
// it, syscall.LOCK_SH, until it is closed.
func lock(file *os.File, how int) error {
	err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errors.New("another arv-docker is at work with it")
	}
	return err
}

// LockPosition takes the file of a Position or SyncPosition for this program until
// what it returns is closed. The lock is on a file beside it, since the file itself
// is another one after each Save.
func LockPosition(path string) (io.Closer, error) {
	file, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0600)
	if err == nil {
		if err = lock(file, syscall.LOCK_EX); err == nil {
			return file, nil
		}
		file.Close()
	}
	return nil, &fault.Error{Op: "lock resume file", Side: fault.Request, Subject: path, Err: err,
		Hint: "stop the other program, or name another file that can be written"}
}
