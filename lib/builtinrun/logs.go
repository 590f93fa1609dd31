// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"bytes"
	"context"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// timestampFormat starts every line of the .txt files: arvados-cwl-runner
// fails on a line that does not begin so.
const timestampFormat = "2006-01-02T15:04:05.000000000Z "

// tailLimit is how much of one file stays in memory after it has been saved;
// beyond it the file goes on in Keep only.
const tailLimit = 8 << 20

// hidden stands where a secret would have been.
const hidden = "[secret]"

// Logs are the files of one container's log collection. All methods may be
// called by several goroutines at a time.
type Logs struct {
	now     func() time.Time
	mtx     sync.Mutex
	files   map[string]*logFile
	secrets []string
	grown   bool // since the last Save
}

type logFile struct {
	saved []keepfile.Segment // what is in Keep only
	tail  []byte             // what follows, in memory
	line  []byte             // an unfinished line
}

// NewLogs starts empty logs.
func NewLogs() *Logs {
	return &Logs{now: time.Now, files: map[string]*logFile{}}
}

// Hide makes every later line show hidden instead of secret.
func (l *Logs) Hide(secret string) {
	if len(secret) < 4 { // would garble ordinary words; no real secret is so short
		return
	}
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.secrets = append(l.secrets, secret)
	sort.Slice(l.secrets, func(i, j int) bool { return len(l.secrets[i]) > len(l.secrets[j]) })
}

// Clean is text with every hidden secret taken out.
func (l *Logs) Clean(text string) string {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	return l.clean(text)
}

func (l *Logs) clean(text string) string {
	for _, secret := range l.secrets {
		text = strings.ReplaceAll(text, secret, hidden)
	}
	return text
}

// cleanError is err, with every hidden secret taken out of what it says.
func (l *Logs) cleanError(err error) error {
	if err == nil {
		return nil
	}
	return cleanedError{l.Clean(err.Error()), err}
}

type cleanedError struct {
	text string
	err  error
}

func (e cleanedError) Error() string { return e.text }
func (e cleanedError) Unwrap() error { return e.err }

// cleanTo makes w show hidden instead of secrets. It must get whole lines.
func (l *Logs) cleanTo(w io.Writer) io.Writer { return cleanWriter{l, w} }

type cleanWriter struct {
	logs *Logs
	w    io.Writer
}

func (c cleanWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(c.w, c.logs.Clean(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Put makes content the whole of the named file.
func (l *Logs) Put(name string, content []byte) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.files[name] = &logFile{tail: content}
	l.grown = true
}

// Stream opens the named file for lines, each of which gets its time. A
// carriage return ends a line like a newline: readers of the log take it so.
func (l *Logs) Stream(name string) io.Writer {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if l.files[name] == nil {
		l.files[name] = &logFile{}
		l.grown = true
	}
	return &stream{logs: l, file: l.files[name]}
}

type stream struct {
	logs    *Logs
	file    *logFile
	afterCR bool
}

func (s *stream) Write(p []byte) (int, error) {
	s.logs.mtx.Lock()
	defer s.logs.mtx.Unlock()
	for rest := p; len(rest) > 0; {
		end := bytes.IndexAny(rest, "\r\n")
		if end < 0 {
			s.file.line = append(s.file.line, rest...)
			s.afterCR = false
			break
		}
		s.file.line = append(s.file.line, rest[:end]...)
		// "\r\n" is one end of line, even when it comes in two writes; a
		// progress bar that only goes back to its start makes no line.
		pair := end == 0 && s.afterCR && rest[end] == '\n'
		if s.afterCR = rest[end] == '\r'; !pair && (!s.afterCR || len(s.file.line) > 0) {
			s.logs.finishLine(s.file)
		}
		rest = rest[end+1:]
	}
	return len(p), nil
}

func (l *Logs) finishLine(f *logFile) {
	f.tail = l.now().UTC().AppendFormat(f.tail, timestampFormat)
	f.tail = append(f.tail, l.clean(string(f.line))...)
	f.tail = append(f.tail, '\n')
	f.line = f.line[:0]
	l.grown = true
}

// Grown reports whether anything was added since the last Save.
func (l *Logs) Grown() bool {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	return l.grown
}

// Save writes to Keep what is not there yet and returns the manifest of the
// log collection as it stands. Unfinished lines wait unless final. Lines can
// be added meanwhile; only one Save may run at a time.
func (l *Logs) Save(ctx context.Context, keep keepfile.BlockWriter, final bool) (string, error) {
	names, tails := l.snapshot(final)
	pack := keepfile.NewPacker(ctx, keepfile.NewWriter(keep, 1, arvados.BlockWriteOptions{}))
	defer pack.Abort()
	for i, name := range names {
		if err := pack.Add(name, bytes.NewReader(tails[i])); err != nil {
			break // Close says it again
		}
	}
	files, err := pack.Close()
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if err != nil {
		l.grown = true
		return "", err
	}
	for i, name := range names {
		f := l.files[name]
		files[i].Segments = append(f.saved[:len(f.saved):len(f.saved)], files[i].Segments...)
		if n := len(tails[i]); n > tailLimit {
			f.saved, f.tail = files[i].Segments, f.tail[n:]
		}
	}
	return keepfile.FormatManifest(files), nil
}

// snapshot is the names of all files and what Keep does not have of them.
// Tails are only ever appended to, so that they can be read without the lock.
func (l *Logs) snapshot(final bool) (names []string, tails [][]byte) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	for name, f := range l.files {
		if final && len(f.line) > 0 {
			l.finishLine(f)
		}
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		tails = append(tails, l.files[name].tail)
	}
	l.grown = false
	return names, tails
}
