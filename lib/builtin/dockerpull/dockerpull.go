// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package dockerpull is the builtin command "docker pull": it streams an image
// from its registry, or by the node's Docker Engine, into Keep. It registers
// itself. It never keeps anything of an image on the node's disk, and never
// creates a collection.
package dockerpull

import (
	"context"
	"os"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/registry"
)

func init() {
	builtin.Register("docker pull", command{})
}

type command struct{}

// Run pulls the image that job.Args name.
func (command) Run(ctx context.Context, job *builtin.Job) (*builtin.Result, error) {
	req, err := parseArgs(job.Args)
	if err != nil {
		return nil, err
	}
	if err := checkMounts(job.Mounts); err != nil {
		return nil, err
	}
	p := &pull{Job: job, request: req, report: newReport(job.Stdout, job.Activity)}
	if p.credentials, err = credentials(job); err != nil {
		return nil, err
	}
	saved, err := p.fromAnywhere(ctx)
	if err != nil {
		return nil, err
	}
	tags := []string{}
	if tag := req.ref.RepoTag(); tag != "" {
		tags = append(tags, tag)
	}
	p.report.done(saved)
	return &builtin.Result{
		ManifestText: saved.ManifestText,
		Properties:   saved.Properties(tags, time.Now()).Map(),
	}, nil
}

// credentials are the request's own, else the site's, else none.
func credentials(job *builtin.Job) ([]byte, error) {
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
