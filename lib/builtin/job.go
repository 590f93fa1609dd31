// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"errors"
	"io"
	"os"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/registry"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
)

// Job is everything a command gets from its host.
type Job struct {
	UUID    string                   // of the container; unique, for private names
	Args    []string                 // words of the command after its name
	Mounts  map[string]arvados.Mount // of the container, secret ones excluded
	Secrets map[string][]byte        // contents of secret mounts by path; never to be logged
	Env     map[string]string        // the container's environment
	RAM     int64                    // bytes that the request asks for, 0 if it does not say
	VCPUs   int                      // likewise
	API     dockerimage.API          // as the user who asked for the container
	Keep    dockerimage.Keep         // likewise
	Owner   string                   // UUID of that user
	Admin   bool                     // that user can read everybody's collections
	Write   arvados.BlockWriteOptions
	Blocks  int // 64 MiB blocks that may be in memory at a time
	Site    Site

	Log      logrus.FieldLogger // what an administrator wants to know
	Stdout   io.Writer          // what docker would print
	Activity func(string)       // a short line on what goes on; cheap to call often
}

// Credentials are a docker config.json for registries: the request's own, else
// the site's, else none.
func (job *Job) Credentials() ([]byte, error) {
	if secret, ok := job.Secrets[registry.CredentialsPath]; ok {
		return secret, nil
	}
	if job.Site.Pull.Credentials == "" {
		return nil, nil
	}
	buf, err := os.ReadFile(job.Site.Pull.Credentials)
	if err != nil {
		return nil, &fault.Error{Op: "read credentials of the site", Side: fault.Engine, Subject: job.Site.Pull.Credentials, Err: err}
	}
	return buf, nil
}

// Refused is err, said so that the user can mend it if a registry has refused a
// request without credentials of its own: a copy of a request, as Workbench
// makes one to run it again, has lost its secret mounts, and nothing on record
// tells. again is the command that sends it anew, with its credentials.
func (job *Job) Refused(err error, again string) error {
	_, own := job.Secrets[registry.CredentialsPath]
	if own || !errors.Is(err, registry.ErrUnauthorized) {
		return err
	}
	return &fault.Error{Op: "check", Side: fault.Request, Subject: "secret_mounts", Err: err,
		Hint: "the request has no credentials; if it is a copy, made to run another one again, it has lost them, and " + again + " sends it with credentials"}
}

// Saver stores the command's image in Keep.
func (job *Job) Saver(progress func(dockerimage.Progress)) *dockerimage.Saver {
	return &dockerimage.Saver{
		API:      job.API,
		Keep:     job.Keep,
		Blocks:   job.Blocks,
		Write:    job.Write,
		Owner:    job.Owner,
		ImageID:  job.Site.ImageID,
		Log:      job.Log,
		Progress: progress,
	}
}

// Policy says which images in Keep a name may mean for the user.
func (job *Job) Policy() dockerimage.Policy {
	trust := dockerimage.Trust(job.Site.Resolve.Trust)
	if trust == "" && job.Admin {
		trust = dockerimage.TrustSite
	}
	return dockerimage.Policy{
		Links: job.Site.Links != "never",
		Trust: trust,
		Own:   []string{job.Owner},
		Site:  job.Site.Resolve.Owners,
	}
}
