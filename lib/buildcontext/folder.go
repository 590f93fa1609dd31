// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"

	"git.arvados.org/arvados.git/lib/fault"
)

// FromFolder is a folder of this machine. root must stay open as long as the
// tree is in use. Symbolic links are taken as links and never followed, so that
// cycles do no harm. Permissions become 0644, or 0755 if the owner may execute
// the file. Sockets are left out, as docker does. What cannot be sent (devices,
// named pipes, what may not be read) is an error only when the tree is read: a
// .dockerignore may exclude it.
func FromFolder(ctx context.Context, root *os.Root) (*Tree, error) {
	b := newBuilder()
	if err := addFolder(ctx, b, root, ""); err != nil {
		return nil, err
	}
	return b.tree(), nil
}

// addFolder adds all that is in a folder.
func addFolder(ctx context.Context, b *builder, root *os.Root, name string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	names, err := listFolder(root, name)
	if err != nil && name == "" {
		return readFault(".", err)
	} else if err != nil {
		e := folder(name)
		e.broken = localFault(name, err)
		return b.add(e)
	}
	for _, child := range names {
		child = path.Join(name, child)
		e, err := localEntry(root, child)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it went away, or is a socket
			continue
		case err != nil:
			return localFault(child, err)
		}
		if err := b.add(e); err != nil {
			return localFault(child, err)
		}
		if e.Kind == Folder {
			if err := addFolder(ctx, b, root, child); err != nil {
				return err
			}
		}
	}
	return nil
}

// listFolder is the names in a folder. It does not use fs.ReadDir on root.FS,
// which takes no names that are not UTF-8.
func listFolder(root *os.Root, name string) ([]string, error) {
	f, err := root.Open(path.Join(".", name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func localEntry(root *os.Root, name string) (Entry, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return Entry{}, err
	}
	switch mode := info.Mode(); mode.Type() {
	case fs.ModeDir:
		return folder(name), nil
	case fs.ModeSymlink:
		target, err := root.Readlink(name)
		return symlink(name, target), err
	case fs.ModeSocket:
		return Entry{}, fs.ErrNotExist
	case 0:
		e := Entry{Path: name, Kind: Regular, Mode: plainMode, Size: info.Size()}
		if mode&0100 != 0 {
			e.Mode = executableMode
		}
		e.open = func(context.Context) (io.ReadCloser, error) { return openLocal(root, name) }
		return e, nil
	default:
		return Entry{Path: name, Kind: Regular, broken: localFault(name, errors.New("it is a device or a named pipe"))}, nil
	}
}

// openLocal opens a file, unless something else has taken its place. A named
// pipe would block without O_NONBLOCK.
func openLocal(root *os.Root, name string) (io.ReadCloser, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, localFault(name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no longer a file")
	}
	if err != nil {
		f.Close()
		return nil, localFault(name, err)
	}
	return f, nil
}

// localFault is the error of something that is in the user's way.
func localFault(name string, err error) error {
	var withPath *fs.PathError
	if errors.As(err, &withPath) { // which would name it again
		err = withPath.Err
	}
	return &fault.Error{Op: "read", Side: fault.Request, Subject: fmt.Sprintf("%q", name), Err: err,
		Hint: "make it readable, or exclude it in " + IgnoreName}
}
