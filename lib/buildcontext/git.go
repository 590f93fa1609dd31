// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"

	"git.arvados.org/arvados.git/lib/fault"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage/memory"
)

// FromGit is the files of one commit of a public git repository, and that
// commit. Only what the commit needs is downloaded, over client: whoever runs
// this for others gives it a dialer that refuses addresses they must not reach.
// All of it stays in memory as long as the tree does; limit is how many bytes
// may be downloaded, and how many the files may have.
//
// Submodules, which docker fetches as well, are refused. Files of Git LFS are
// the pointers that git has for them, as with docker. There is no .git folder.
func FromGit(ctx context.Context, client *http.Client, from GitURL, limit int64) (*Tree, string, error) {
	g := &gitReader{from: from, limit: limit}
	tree, commit, err := g.read(ctx, client)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, "", g.fault(err)
	}
	return tree, commit, nil
}

type gitReader struct {
	from  GitURL
	limit int64 // bytes
	store *memory.Storage
}

func (g *gitReader) read(ctx context.Context, client *http.Client) (*Tree, string, error) {
	endpoint, err := transport.NewEndpoint(g.from.Repository)
	if err != nil {
		return nil, "", err
	}
	session, err := githttp.NewClient(limitAnswers(client, g.limit)).NewUploadPackSession(endpoint, nil)
	if err != nil {
		return nil, "", err
	}
	defer session.Close()
	pack, want, err := g.fetch(ctx, session)
	if err != nil {
		return nil, "", err
	}
	if err := checkPack(pack, g.limit); err != nil {
		return nil, "", err
	}
	g.store = memory.NewStorage()
	if err := packfile.UpdateObjectStorage(g.store, bytes.NewReader(pack)); err != nil {
		return nil, "", err
	}
	commit, err := findCommit(g.store, want)
	if err != nil {
		return nil, "", err
	}
	tree, err := g.tree(commit)
	return tree, commit.Hash.String(), err
}

// findCommit is the commit that a name stands for: annotated tags are objects
// of their own.
func findCommit(store storer.EncodedObjectStorer, hash plumbing.Hash) (*object.Commit, error) {
	found, err := object.GetObject(store, hash)
	if err != nil {
		return nil, err
	}
	switch found := found.(type) {
	case *object.Commit:
		return found, nil
	case *object.Tag:
		return findCommit(store, found.Target)
	}
	return nil, fmt.Errorf("%s is no commit", hash)
}

// tree is the files that the commit has in the folder asked for.
func (g *gitReader) tree(commit *object.Commit) (*Tree, error) {
	top, err := commit.Tree()
	if err == nil && g.from.Subdir != "" {
		top, err = top.Tree(g.from.Subdir)
	}
	if errors.Is(err, object.ErrDirectoryNotFound) {
		return nil, refusal("read git repository", g.from.String(), "there is no such folder in it", "")
	} else if err != nil {
		return nil, err
	}
	b, left := newBuilder(), g.limit
	if err := g.add(b, &left, "", top); err != nil {
		return nil, err
	}
	return b.tree(), nil
}

// entryCost is what each entry counts against the limit beside its content, as
// it does in the stream. A few kilobytes of a repository can stand for billions
// of empty files.
const entryCost = 512

// add adds all that is in a folder. left is how many bytes of the limit are.
func (g *gitReader) add(b *builder, left *int64, name string, from *object.Tree) error {
	for _, child := range from.Entries {
		e, err := g.entry(path.Join(name, child.Name), child)
		if err != nil {
			return err
		}
		if *left -= e.Size + entryCost; *left < 0 {
			return errTooBig
		}
		if err := checkName(child.Name); err != nil {
			return err
		}
		if err := b.add(e); err != nil {
			return err
		}
		if e.Kind != Folder {
			continue
		}
		below, err := object.GetTree(g.store, child.Hash)
		if err != nil {
			return err
		}
		if err := g.add(b, left, e.Path, below); err != nil {
			return err
		}
	}
	return nil
}

// maxTarget is the most bytes of a link's target (PATH_MAX of Linux).
const maxTarget = 4096

func (g *gitReader) entry(name string, from object.TreeEntry) (Entry, error) {
	switch from.Mode {
	case filemode.Dir:
		return folder(name), nil
	case filemode.Submodule:
		return Entry{}, refusal("read git repository", g.from.String(), fmt.Sprintf("%q is a submodule", name),
			"submodules are not fetched: put what the build needs of it into the repository, or into a collection")
	}
	blob, err := object.GetBlob(g.store, from.Hash)
	if err != nil {
		return Entry{}, err
	}
	if from.Mode != filemode.Symlink {
		e := Entry{Path: name, Kind: Regular, Mode: plainMode, Size: blob.Size}
		if from.Mode == filemode.Executable {
			e.Mode = executableMode
		}
		e.open = func(context.Context) (io.ReadCloser, error) { return blob.Reader() }
		return e, nil
	}
	if blob.Size > maxTarget {
		return Entry{}, fmt.Errorf("the target of the link %q is too long", name)
	}
	r, err := blob.Reader()
	if err != nil {
		return Entry{}, err
	}
	defer r.Close()
	target, err := io.ReadAll(r)
	return symlink(name, string(target)), err
}

// fault makes err an error about the repository. Trouble of the server or on
// the way to it is taken to pass.
func (g *gitReader) fault(err error) error {
	var unexpected *plumbing.UnexpectedError // which does not unwrap
	if errors.As(err, &unexpected) {
		err = unexpected.Err
	}
	var already *fault.Error
	if errors.As(err, &already) {
		return already // without the request's URL before it
	}
	e := &fault.Error{Op: "read git repository", Side: fault.Request, Subject: g.from.String(), Err: err}
	var refused *githttp.Err
	var dns *net.DNSError
	var network net.Error
	switch {
	case errors.Is(err, errTooBig):
		e.Err = fmt.Errorf("%w than the %d bytes that are allowed", errTooBig, g.limit)
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed), errors.Is(err, transport.ErrRepositoryNotFound):
		e.Err = errors.New("it is not there, or not public")
		e.Hint = "check the address; only repositories that need no password can be read"
	case errors.As(err, &refused):
		e.Transient = passes(refused.StatusCode())
	case errors.As(err, &dns):
		e.Transient = !dns.IsNotFound
	default:
		e.Transient = errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)
	}
	return e
}
