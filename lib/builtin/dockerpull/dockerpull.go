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
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
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
	p := &pull{Job: job, request: req, report: builtin.NewReport(job)}
	if p.credentials, err = job.Credentials(); err != nil {
		return nil, err
	}
	saved, err := p.fromAnywhere(ctx)
	if err != nil {
		return nil, job.Refused(err, "arv-docker pull --credentials FILE "+req.ref.Familiar())
	}
	tags := []string{}
	if tag := req.ref.RepoTag(); tag != "" {
		tags = append(tags, tag)
	}
	p.report.Done(saved)
	return &builtin.Result{
		ManifestText: saved.ManifestText,
		Properties:   saved.Properties(tags, time.Now()).Map(),
	}, nil
}
