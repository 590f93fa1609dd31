// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"git.arvados.org/arvados.git/lib/fault"
)

// LoadPosition reads where a migration has stopped; the zero value, if there is no
// such file.
func LoadPosition(path string) (Position, error) { return load[Position](path) }

// LoadSyncPosition reads where a Sync has stopped; the zero value, if there is no
// such file.
func LoadSyncPosition(path string) (SyncPosition, error) { return load[SyncPosition](path) }

func load[P Position | SyncPosition](path string) (p P, err error) {
	buf, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(buf, &p)
	}
	if err != nil {
		var none P
		return none, &fault.Error{Op: "read resume file", Side: fault.Request, Subject: path, Err: err,
			Hint: "remove it to begin at the start; what is written already is not written again"}
	}
	return p, nil
}

// Save writes the position to a file that is whole at any time.
func (p Position) Save(path string) error { return save(path, p) }

// Save writes the position to a file that is whole at any time.
func (p SyncPosition) Save(path string) error { return save(path, p) }

func save[P Position | SyncPosition](path string, p P) error {
	buf, err := json.Marshal(p)
	if err == nil {
		err = replaceFile(path, append(buf, '\n'))
	}
	if err != nil {
		return &fault.Error{Op: "write resume file", Side: fault.Request, Err: err, Hint: "name a file that can be written"}
	}
	return nil
}

// replaceFile writes a file that has its old content or the new one even if power
// fails.
func replaceFile(path string, content []byte) error {
	unfinished := path + "~"
	file, err := os.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	return os.Rename(unfinished, path)
}
