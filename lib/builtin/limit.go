// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"context"
	"fmt"
	"io"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
)

// SaveArchive stores the image in an archive that an engine has made, unless it has
// more bytes than the site allows, which is known only once they have come. Then the
// error is refusal, with the cause filled in.
func (job *Job) SaveArchive(ctx context.Context, archive io.Reader, most Bytes, refusal fault.Error, progress func(dockerimage.Progress)) (*dockerimage.Saved, error) {
	limited := &sizeLimit{archive: archive, most: int64(most), refusal: refusal}
	saved, err := job.Saver(progress).SaveArchive(ctx, limited)
	if limited.err != nil {
		return nil, limited.err // not that the archive cannot be read
	}
	return saved, err
}

// sizeLimit ends with an error when there is more than the site allows.
type sizeLimit struct {
	archive io.Reader
	most    int64 // bytes; 0 for no limit
	refusal fault.Error
	read    int64
	err     error // that it is too long
}

func (l *sizeLimit) Read(p []byte) (int, error) {
	n, err := l.archive.Read(p)
	if l.read += int64(n); l.most > 0 && l.read > l.most {
		told := l.refusal
		told.Err = fmt.Errorf("the image has more than %s", Size(l.most))
		l.err = &told
		return 0, l.err
	}
	return n, err
}
