// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// handOver makes this process the stock crunch-run: same PID, process group,
// lock and environment, and stdin from its beginning. It returns only when
// that cannot be done; the container is untouched then.
func handOver(stock string, args []string, stdin []byte) error {
	if stdin != nil {
		// A memory file, since a pipe would hold 64 KiB only.
		fd, err := unix.MemfdCreate("stdin", 0)
		if err != nil {
			return fmt.Errorf("hand over stdin: %w", err)
		}
		replay := os.NewFile(uintptr(fd), "stdin")
		if _, err := replay.Write(stdin); err != nil {
			return fmt.Errorf("hand over stdin: %w", err)
		}
		if _, err := replay.Seek(0, 0); err != nil {
			return fmt.Errorf("hand over stdin: %w", err)
		}
		if err := unix.Dup2(fd, 0); err != nil {
			return fmt.Errorf("hand over stdin: %w", err)
		}
	}
	// The multi-call binary knows what to do by its argv[0].
	err := syscall.Exec(stock, append([]string{"crunch-run"}, args...), os.Environ())
	return fmt.Errorf("stock crunch-run %s cannot be started: %w (set stock_crunch_run in the site file)", stock, err)
}

// closeLockOnExec keeps the lock out of programs that a builtin command
// starts: one that outlived us would make the node look broken.
func closeLockOnExec() {
	syscall.CloseOnExec(inheritedLock)
}
