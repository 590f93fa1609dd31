// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"git.arvados.org/arvados.git/lib/fault"
)

// Undo is a line of the rollback file: the properties of a collection before and
// after they were written, as the server has them.
type Undo struct {
	Collection string          `json:"collection"`
	Before     json.RawMessage `json:"before"`
	After      json.RawMessage `json:"after"`
}

// RollbackFile holds what a migration has written, in JSON lines. A line is safe on
// disk before the server is asked to write.
type RollbackFile struct {
	file *os.File
	mtx  sync.Mutex
}

// OpenRollback opens a file to add to it, which nobody else can do meanwhile. A line
// that a program which was stopped has not written to its end is taken away: nothing
// has been changed by it.
func OpenRollback(path string) (*RollbackFile, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0600)
	if err != nil {
		return nil, &fault.Error{Op: "open rollback file", Side: fault.Request, Err: err, Hint: "name a file that can be written"}
	}
	if err := lock(file, syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, &fault.Error{Op: "open rollback file", Side: fault.Request, Subject: path, Err: err, Hint: "stop that, or name another file"}
	}
	end := int64(0)
	err = checkBegin(file)
	if err == nil {
		err = eachLine(file, func(start int64, line []byte) error {
			if start == 0 {
				if _, err := parseUndo(line); err != nil {
					return errOther
				}
			}
			end = start + int64(len(line)) + 1
			return nil
		})
	}
	if err == nil {
		err = file.Truncate(end)
	}
	if err == nil && end == 0 { // it may be new
		err = syncFolder(path)
	}
	if err != nil {
		file.Close()
		return nil, &fault.Error{Op: "prepare rollback file", Side: fault.Request, Subject: path, Err: err, Hint: "name another file"}
	}
	return &RollbackFile{file: file}, nil
}

// lineBegins is how each line begins.
const lineBegins = `{"collection":"`

var errOther = errors.New("it is not what arv-docker has written to undo changes")

// checkBegin refuses a file that begins in another way: it was named by mistake, and
// all of it may be taken for a line that was not written to its end.
func checkBegin(file *os.File) error {
	begin := make([]byte, len(lineBegins))
	n, err := file.ReadAt(begin, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(begin[:n]) != lineBegins[:n] {
		return errOther
	}
	return nil
}

// syncFolder makes sure that a file is still in its folder after power has failed.
func syncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	err = folder.Sync()
	if errors.Is(err, syscall.EINVAL) { // file systems for which that goes without saying
		return nil
	}
	return err
}

// Close closes the file.
func (f *RollbackFile) Close() error { return f.file.Close() }

// add puts lines on disk.
func (f *RollbackFile) add(lines ...Undo) error {
	if len(lines) == 0 {
		return nil
	}
	var text bytes.Buffer
	for _, line := range lines {
		buf, err := json.Marshal(line)
		if err != nil {
			return err
		}
		text.Write(buf)
		text.WriteByte('\n')
	}
	f.mtx.Lock()
	defer f.mtx.Unlock()
	_, err := f.file.Write(text.Bytes())
	if err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		return &fault.Error{Op: "write rollback file", Side: fault.Request, Err: err, Hint: "make room for it, and start again"}
	}
	return nil
}

// eachLine calls with each whole line, without its end, and where it starts.
func eachLine(file *os.File, with func(start int64, line []byte) error) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReaderSize(file, 1<<20)
	for start := int64(0); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := with(start, line[:len(line)-1]); err != nil {
			return err
		}
		start += int64(len(line))
	}
}

// rollbackLines are the lines of a rollback file, which are read one by one: they
// may be more than fit into memory.
type rollbackLines struct {
	file   *os.File
	starts []int64            // of all lines
	of     map[string][]int64 // of those of each collection
}

// readRollback reads a file that nobody is adding to. What is wrong with it is
// found before anything is undone.
func readRollback(path string) (*rollbackLines, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, &fault.Error{Op: "open rollback file", Side: fault.Request, Err: err, Hint: "name the file that arv-docker migrate or sync has written"}
	}
	l := &rollbackLines{file: file, of: map[string][]int64{}}
	if err := lock(file, syscall.LOCK_SH); err != nil {
		file.Close()
		return nil, &fault.Error{Op: "open rollback file", Side: fault.Request, Subject: path, Err: err, Hint: "stop that, for it would write everything again"}
	}
	err = eachLine(file, func(start int64, text []byte) error {
		l.starts = append(l.starts, start)
		u, err := parseUndo(text)
		if err != nil {
			return fmt.Errorf("line %d: %w", len(l.starts), err)
		}
		l.of[u.Collection] = append(l.of[u.Collection], start)
		return nil
	})
	if err != nil {
		file.Close()
		return nil, &fault.Error{Op: "read rollback file", Side: fault.Request, Subject: path, Err: err,
			Hint: "it must be as arv-docker has written it"}
	}
	return l, nil
}

func parseUndo(text []byte) (u Undo, err error) {
	err = json.Unmarshal(text, &u)
	switch {
	case err != nil:
	case !isCollection(u.Collection):
		err = fmt.Errorf("%.100q is not the UUID of a collection", u.Collection)
	case u.Before == nil || u.After == nil: // as in a report
		err = errors.New("the properties before or after are missing")
	}
	return u, err
}

// at is the line that starts there.
func (l *rollbackLines) at(start int64) (Undo, error) {
	reader := bufio.NewReader(io.NewSectionReader(l.file, start, 1<<62))
	text, err := reader.ReadBytes('\n')
	if err != nil {
		return Undo{}, err
	}
	return parseUndo(text)
}
