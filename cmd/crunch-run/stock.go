// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"git.arvados.org/arvados.git/lib/builtin"
	"golang.org/x/sys/unix"
)

// stock is the site's own crunch-run, which runs what is not builtin.
type stock struct {
	path string // of the program; for messages, if it is carried
	// carried is the program within this one, as a file in memory, which the
	// first call makes; nil if there is none.
	carried func() (*os.File, error)
}

const (
	// stockBeside is the name of a stock crunch-run in this program's own
	// folder. The multi-call binary behind it cuts its name at the tilde.
	stockBeside = "crunch-run~stock"
	// stockPackage is where Arvados's package puts it.
	stockPackage = "/usr/bin/crunch-run"
	// stockName is the argv[0] by which the multi-call binary knows what
	// to do, and by which nothing that it starts lands here again.
	stockName = "crunch-run"
)

// ownProgram is the file that this process runs, whatever has become of its name.
const ownProgram = "/proc/self/exe"

// findStock is the program that this one carries, else the one of the site file,
// else the one beside this program, else the package's. It need not be there.
func findStock(site builtin.Site) (stock, error) {
	self, err := os.Open(ownProgram)
	if err != nil {
		return stock{}, err
	}
	carried, err := bundled(self)
	if carried != nil {
		return stock{path: "in this program", carried: sync.OnceValues(func() (*os.File, error) { return memoryFile(carried) })}, nil
	}
	self.Close()
	if err != nil || site.StockCrunchRun != "" {
		return stock{path: site.StockCrunchRun}, err
	}
	if exe, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(exe), stockBeside)
		if _, err := os.Stat(beside); err == nil {
			return stock{path: beside}, nil
		}
	}
	return stock{path: stockPackage}, nil
}

// prefetch begins to copy a carried program into memory, while it is not yet known
// whether it is needed.
func (s stock) prefetch() {
	if s.carried != nil {
		go s.carried()
	}
}

// drop gives the memory back: the program is not needed.
func (s stock) drop() {
	if s.carried != nil {
		if f, err := s.carried(); err == nil {
			f.Close()
		}
	}
}

// open is a path by which this process and its children can start the program,
// until close is called.
func (s stock) open() (path string, close func() error, err error) {
	if s.carried != nil {
		f, err := s.carried()
		if err != nil {
			return "", nil, err
		}
		// Not /proc/self, which in a child is another process.
		return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), f.Close, nil
	}
	info, err := os.Stat(s.path)
	if err == nil && (info.Mode()&0111 == 0 || !info.Mode().IsRegular()) {
		err = errors.New("it is no program")
	}
	if err == nil {
		var own os.FileInfo
		own, err = os.Stat(ownProgram)
		if err == nil && os.SameFile(info, own) {
			err = errors.New("that is this program itself")
		}
	}
	if err != nil {
		return "", nil, err
	}
	return s.path, func() error { return nil }, nil
}

func (s stock) cannotStart(err error) error {
	hint := "name Arvados's own by stock_crunch_run in the site file, or make a bundle by -bundle"
	if s.carried != nil {
		hint = "if this node forbids programs in memory (sysctl vm.memfd_noexec), install both programs on it instead of a bundle"
	}
	return fmt.Errorf("stock crunch-run (%s) cannot be started: %w; %s", s.path, err, hint)
}

// exec makes this process the stock crunch-run: same PID, process group, lock
// and environment, and stdin from its beginning. It returns only when that
// cannot be done; the container is untouched then.
func (s stock) exec(args []string, stdin []byte) error {
	path, done, err := s.open()
	if err != nil {
		return s.cannotStart(err)
	}
	defer done()
	if stdin != nil {
		// A memory file, since a pipe would hold 64 KiB only.
		replay, err := memoryFile(bytes.NewReader(stdin))
		if err == nil {
			err = unix.Dup2(int(replay.Fd()), 0)
		}
		if err != nil {
			return fmt.Errorf("hand over stdin: %w", err)
		}
	}
	return s.cannotStart(syscall.Exec(path, append([]string{stockName}, args...), os.Environ()))
}

// version is what the stock crunch-run says of itself. Another one of this program
// is none.
func (s stock) version(ctx context.Context) (string, error) {
	path, done, err := s.open()
	if err != nil {
		return "", err
	}
	defer done()
	cmd := exec.CommandContext(ctx, path, "-version")
	cmd.Args[0] = stockName
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("crunch-run -version: %w", err)
	}
	if bytes.Contains(out, []byte(builtinWords)) {
		return "", errors.New("it is a crunch-run with builtin commands itself")
	}
	return strings.TrimSpace(string(out)), nil
}

// memoryFile is a file in memory with what r gives, to be read or executed from
// its beginning.
func memoryFile(r io.Reader) (*os.File, error) {
	// Newer kernels may be set up to refuse execution unless it is asked for,
	// and older ones do not know the flag.
	fd, err := unix.MemfdCreate(stockName, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(stockName, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), stockName)
	// A hundred MiB and more, while a container waits to be started: large pieces.
	if _, err = io.CopyBuffer(struct{ io.Writer }{f}, r, make([]byte, 1<<20)); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// closeLockOnExec keeps the lock out of programs that a builtin command
// starts: one that outlived us would make the node look broken.
func closeLockOnExec() {
	syscall.CloseOnExec(inheritedLock)
}
