// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/builtinrun"
)

// lockDir is the folder with the lock files by which crunch-run processes on a
// node are found, /var/lock. A process that runs a container holds the lock on
// crunch-run-UUID.lock and has written a procInfo into it; a file that nobody
// holds is left over. Genuine crunch-run uses the same files.
type lockDir string

// procInfo is the content of a lock file: one line of JSON.
type procInfo struct {
	UUID string
	PID  int32 // kill(2) takes no more: in a greater number it may see -1, which is everybody
}

// bogus reports whether p names no process of one container. Anybody on the node
// may leave a file among the locks.
func (p procInfo) bogus() bool { return p.UUID == "" || p.PID <= 0 }

const (
	lockPrefix = "crunch-run-"
	lockSuffix = ".lock"
	// inheritedLock is the file descriptor by which a detached process
	// holds its lock.
	inheritedLock = 3
)

// killGrace is how long a killed process may take before kill reports that it
// still lives; the dispatcher then asks again.
const killGrace = time.Second

func (d lockDir) path(name string) string {
	return filepath.Join(string(d), lockPrefix+name+lockSuffix)
}

// open opens the named lock file and takes its lock, waiting for it unless how
// includes LOCK_NB.
func (d lockDir) open(name string, how int) (*os.File, error) {
	f, err := builtinrun.OpenNodeFile(d.path(name), os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", d.path(name), err)
	}
	return f, nil
}

// detach starts a copy of this program in the background, with the container's
// lock and all of stdin, and returns as soon as it has read that.
func (d lockDir) detach(cmd command, stdin io.Reader, stdout io.Writer) error {
	// The lock on the folder keeps a lister from removing our file between
	// its creation and its lock.
	all, err := d.open("all", syscall.LOCK_EX)
	if err != nil {
		return err
	}
	lock, err := d.open(cmd.uuid, syscall.LOCK_EX|syscall.LOCK_NB)
	all.Close()
	if err != nil {
		return err
	}
	defer lock.Close() // the child has its own descriptor
	if err := lock.Truncate(0); err != nil {
		return err
	}
	words := append([]string{cmd.prog}, cmd.childArgs...)
	child := exec.Command(words[0], words[1:]...)
	if cat, err := exec.LookPath("systemd-cat"); err == nil && journalRuns() {
		// Both exec in place, so that the PID stays.
		name := []string{"--identifier=crunch-run", "systemd-cat", "--identifier=crunch-run"}
		child = exec.Command(cat, append(name, words...)...)
	}
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	child.ExtraFiles = []*os.File{lock} // descriptor inheritedLock of the child
	input, err := child.StdinPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	_, err = io.Copy(input, stdin)
	if err = errors.Join(err, input.Close()); err != nil {
		return fmt.Errorf("hand stdin to process %d: %w", child.Process.Pid, err)
	}
	line, err := json.Marshal(procInfo{UUID: cmd.uuid, PID: int32(child.Process.Pid)})
	if err != nil {
		return err
	}
	_, err = io.MultiWriter(stdout, lock).Write(append(line, '\n'))
	return err
}

// journalRuns reports whether systemd-cat would find its journal; it refuses to
// start anything otherwise.
func journalRuns() bool {
	_, err := os.Stat("/run/systemd/journal/stdout")
	return err == nil
}

// kill sends a signal and waits for the process to go. A container that has no
// lock file, or whose process has gone, is no error.
func (d lockDir) kill(uuid string, sig syscall.Signal, stderr io.Writer) error {
	path := d.path(uuid)
	f, err := builtinrun.OpenNodeFile(path, os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var proc procInfo
	if err := json.NewDecoder(f).Decode(&proc); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	if proc.bogus() || proc.UUID != uuid {
		return fmt.Errorf("%s: bogus procinfo: %+v", path, proc)
	}
	process, err := os.FindProcess(int(proc.PID))
	if err != nil {
		return err
	}
	err = process.Signal(sig)
	for end := time.Now().Add(killGrace); err == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		err = process.Signal(syscall.Signal(0))
	}
	if err == nil {
		return fmt.Errorf("%s: pid %d: sent signal %d (%v) but process is still alive", uuid, proc.PID, int(sig), sig)
	}
	fmt.Fprintf(stderr, "%s: pid %d: %v\n", uuid, proc.PID, err)
	return nil
}

// prices is the file by which dispatchers tell crunch-run processes what the
// node costs: a JSON list of {"StartTime", "Price"}.
func (d lockDir) prices() string {
	return filepath.Join(string(d), "crunch-run-prices.json")
}

// savePrices keeps what a dispatcher sends along with its question what runs.
// Dispatchers before Arvados 3.2.1 send it without saying so.
func (d lockDir) savePrices(cmd command, stdin io.Reader) error {
	if !cmd.stdinPrices && !comesFromProgram(stdin) {
		return nil
	}
	text, err := io.ReadAll(stdin)
	if err != nil {
		return fmt.Errorf("read prices: %w", err)
	}
	if len(text) == 0 {
		return nil
	}
	next, err := os.CreateTemp(string(d), filepath.Base(d.prices())+"~*") // a name that nobody has taken before
	if err != nil {
		return err
	}
	_, err = next.Write(text)
	if err = errors.Join(err, next.Chmod(0644), next.Close()); err == nil {
		err = os.Rename(next.Name(), d.prices())
	}
	if err != nil {
		os.Remove(next.Name())
	}
	return err
}

// comesFromProgram reports whether stdin is a pipe or a file, rather than
// somebody's terminal, which would never end.
func comesFromProgram(stdin io.Reader) bool {
	f, ok := stdin.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice == 0
}

// list prints the UUID of each container that a process on this node runs,
// with " stale" when a lock outlives its process, and removes lock files that
// nobody holds. "broken" tells the dispatcher to give the node up.
func (d lockDir) list(stdout, stderr io.Writer) error {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		info, err := entry.Info()
		switch {
		case err != nil || info.IsDir(): // gone meanwhile, or no lock
		case name == filepath.Base(d.broken()):
			fmt.Fprintln(stdout, "broken")
		case strings.HasPrefix(name, lockPrefix) && strings.HasSuffix(name, lockSuffix):
			if err := d.probe(filepath.Join(string(d), name), stdout, stderr); err != nil {
				return err
			}
		}
	}
	return nil
}

// probe reports on one lock file. An error is one of the lock on the folder.
func (d lockDir) probe(path string, stdout, stderr io.Writer) error {
	f, err := d.sweep(path, stderr)
	if f == nil {
		return err
	}
	defer f.Close()
	var proc procInfo
	if err := json.NewDecoder(f).Decode(&proc); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", path, err)
	} else if proc.bogus() {
		fmt.Fprintf(stderr, "%s: bogus procinfo: %+v\n", path, proc)
	} else if syscall.Kill(int(proc.PID), syscall.SIGUSR2) != nil {
		fmt.Fprintln(stdout, proc.UUID, "stale")
	} else {
		fmt.Fprintln(stdout, proc.UUID)
	}
	return nil
}

// sweep opens a lock file that somebody holds, and removes one that nobody does;
// nil means that there is nothing to report.
func (d lockDir) sweep(path string, stderr io.Writer) (*os.File, error) {
	f, err := builtinrun.OpenNodeFile(path, os.O_RDONLY)
	if err != nil {
		return nil, nil // gone meanwhile, another user's, or no lock
	}
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		f.Close()
		return nil, nil // starting up
	}
	// Without the lock on the folder, a process that is just starting could
	// find its lock taken by us.
	all, err := d.open("all", syscall.LOCK_EX)
	if err != nil {
		f.Close()
		return nil, err
	}
	defer all.Close()
	if syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil {
		return f, nil
	}
	defer f.Close()
	// Somebody else may have removed it, and a new process made its own.
	if now, err := os.Stat(path); err != nil || !os.SameFile(info, now) {
		return nil, nil
	}
	if err := os.Remove(path); err != nil {
		fmt.Fprintf(stderr, "unlink %s: %v\n", path, err)
	}
	return nil, nil
}
