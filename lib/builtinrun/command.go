// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Builtin is the work of a container that is for a builtin command.
type Builtin struct {
	Site builtin.Site
}

// Do runs the command that the container's record names.
func (b Builtin) Do(ctx context.Context, s *Session) (Outcome, error) {
	result, err := b.run(ctx, s)
	if err == nil {
		return Outcome{HasOutput: true, ManifestText: result.ManifestText, Properties: result.Properties}, nil
	}
	if ctx.Err() != nil {
		return Outcome{}, ctx.Err()
	}
	code, ok := builtin.ExitCode(err)
	if !ok {
		return Outcome{}, err
	}
	message := builtin.Shorten(s.Logs.Clean(err.Error()))
	fmt.Fprintln(s.Stderr, message)
	s.Status.Error(message)
	s.Log.Errorf("command failed with exit code %d: %s", code, message)
	return Outcome{ExitCode: code}, nil
}

func (b Builtin) run(ctx context.Context, s *Session) (*builtin.Result, error) {
	ctr := s.Container
	command, args, ok := builtin.Find(ctr.Command)
	if !ok {
		return nil, builtin.Unknown(ctr.Command)
	}
	if !ctr.RuntimeConstraints.API {
		return nil, &fault.Error{Op: "check", Side: fault.Request, Subject: "runtime_constraints.API",
			Err: errors.New("is false"), Hint: "set it to true: builtin commands write to Keep on your behalf"}
	}
	if len(ctr.OutputStorageClasses) == 0 {
		ctr.OutputStorageClasses = nil // the cluster's default ones; an empty list would mean none
	}
	return command.Run(ctx, &builtin.Job{
		UUID:     ctr.UUID,
		Args:     args,
		Mounts:   ctr.Mounts,
		Secrets:  secretContents(s.Secrets),
		Env:      ctr.Environment,
		RAM:      ctr.RuntimeConstraints.RAM,
		VCPUs:    ctr.RuntimeConstraints.VCPUs,
		API:      s.User,
		Keep:     s.Keep,
		Owner:    s.Owner,
		Admin:    s.Admin,
		Write:    arvados.BlockWriteOptions{StorageClasses: ctr.OutputStorageClasses},
		Blocks:   dockerimage.BlocksInFlight(),
		Site:     b.Site,
		Log:      s.Log,
		Stdout:   s.Stdout,
		Activity: s.Status.Activity,
	})
}

// secretContents are the secret mounts as the files that a container would
// see.
func secretContents(mounts map[string]arvados.Mount) map[string][]byte {
	contents := map[string][]byte{}
	for path, mount := range mounts {
		switch content := mount.Content.(type) {
		case string:
			contents[path] = []byte(content)
			if mount.Kind == "json" {
				contents[path], _ = json.Marshal(content)
			}
		default:
			contents[path], _ = json.Marshal(content) // came as JSON
		}
	}
	return contents
}
