// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package pgtest starts PostgreSQL servers with the tables of an Arvados cluster,
// for tests and benchmarks. A server listens on a socket in a temporary folder, and
// at no address.
package pgtest

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

//go:embed schema.sql
var schema string

// Server is a PostgreSQL server. Any number of databases may be made in it.
type Server struct {
	dir, programs string
	as            *syscall.Credential // nil for whoever this runs as
	uid           int
	cmd           *exec.Cmd
	log           bytes.Buffer
	done          chan struct{}
}

// Start starts a server with settings ("fsync=off").
func Start(settings ...string) (*Server, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errors.New("this needs PostgreSQL: install the Debian package postgresql")
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(versionOf(a), versionOf(b)) })
	s := &Server{programs: filepath.Dir(newest), uid: os.Getuid(), done: make(chan struct{})}
	if s.uid == 0 { // as which it does not run
		if err := s.runAs("postgres"); err != nil {
			return nil, err
		}
	}
	if s.dir, err = os.MkdirTemp("", "pgtest"); err != nil {
		return nil, err
	}
	if err := s.start(settings); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	return s, nil
}

// versionOf is the version that a program in such a folder is of, 9.6 or 15.
func versionOf(program string) float64 {
	version, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(filepath.Dir(program))), 64) // 0 comes last
	return version
}

func (s *Server) runAs(name string) error {
	account, err := user.Lookup(name)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(account.Gid)
	if err != nil {
		return err
	}
	if s.uid, err = strconv.Atoi(account.Uid); err != nil {
		return err
	}
	s.as = &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(gid)}
	return nil
}

func (s *Server) program(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.programs, name), args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

func (s *Server) start(settings []string) error {
	if err := os.Chown(s.dir, s.uid, -1); err != nil {
		return err
	}
	data := filepath.Join(s.dir, "data")
	// As most sites have it, "-" counts little in the order of texts.
	out, err := s.program("initdb", "-D", data, "-U", "arvados", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8",
		"--locale-provider=icu", "--icu-locale=en-US").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	args := []string{"-D", data, "-k", s.dir, "-c", "listen_addresses="}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	s.cmd = s.program("postgres", args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // Stop ends it
	}()
	for range 600 {
		if s.program("pg_isready", "-q", "-h", s.dir).Run() == nil {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("postgres did not start: %s", s.log.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	s.stop()
	return errors.New("postgres did not start within 30 s")
}

// stop ends the server and waits for its end.
func (s *Server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGQUIT) // fails if it has ended
	<-s.done
}

// Stop ends the server and removes all that it has.
func (s *Server) Stop() error {
	s.stop()
	return os.RemoveAll(s.dir)
}

// DSN is the address of a database.
func (s *Server) DSN(database string) string {
	return fmt.Sprintf("host=%s user=arvados dbname=%s", s.dir, database)
}

// Make makes an Arvados database without content, and returns its address.
func (s *Server) Make(database string) (string, error) {
	if err := s.Run("postgres", "CREATE DATABASE "+database); err != nil {
		return "", err
	}
	return s.DSN(database), s.Run(database, schema)
}

// Run runs SQL statements.
func (s *Server) Run(database, statements string) error {
	_, err := s.psql(database, statements)
	return err
}

// Properties are those of all collections, exactly as the database has them, in the
// order of UUIDs, a line for each.
func (s *Server) Properties(database string) (string, error) {
	return s.psql(database, `SELECT uuid || ' ' || coalesce(properties::text, 'NULL') FROM collections ORDER BY uuid COLLATE "C"`)
}

func (s *Server) psql(database, statements string) (string, error) {
	cmd := s.program("psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-h", s.dir, "-U", "arvados", "-d", database)
	cmd.Stdin = bytes.NewReader([]byte(statements))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("psql: %w\n%s", err, out)
	}
	return string(out), nil
}
