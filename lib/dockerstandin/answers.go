// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerstandin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"git.arvados.org/arvados.git/lib/arvdocker"
	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"github.com/dustin/go-humanize"
)

// inspect prints what is found, and fails if something is not, as docker does.
func (s standin) inspect(ctx context.Context, c call) error {
	format, err := parseFormat(c.format)
	if err != nil {
		return err
	}
	shown := []*arvdocker.Image{}
	var failures []error
	for _, name := range c.args {
		image, err := s.Image(ctx, name)
		switch {
		case err == nil:
			shown = append(shown, image)
		case errors.Is(err, dockerimage.ErrNotFound):
			failures = append(failures, errors.New("Error: No such object: "+name))
		default:
			failures = append(failures, err)
		}
	}
	if format == nil {
		encoder := json.NewEncoder(s.Stdout)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "    ")
		err = encoder.Encode(shown)
	} else {
		err = s.printFormatted(format, shown)
	}
	if err != nil {
		return err
	}
	return errors.Join(failures...)
}

// parseFormat reads the template of --format; nil is for JSON.
func parseFormat(text string) (*template.Template, error) {
	if text == "" || text == "json" {
		return nil, nil
	}
	format, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			text, err := json.Marshal(v)
			return string(text), err
		},
	}).Parse(text)
	if err != nil {
		return nil, refuse(64, "inspect: --format: %v", err)
	}
	return format, nil
}

// printFormatted prints a line for each image, and an empty one for none.
func (s standin) printFormatted(format *template.Template, images []*arvdocker.Image) error {
	var text bytes.Buffer
	for _, image := range images {
		// By the names that JSON has, which are docker's.
		buf, err := json.Marshal(image)
		if err != nil {
			return err
		}
		var fields map[string]any
		if err := json.Unmarshal(buf, &fields); err != nil {
			return err
		}
		if err := format.Execute(&text, fields); err != nil {
			return fmt.Errorf("template parsing error: %w", err)
		}
		text.WriteByte('\n')
	}
	if len(images) == 0 {
		text.WriteByte('\n')
	}
	_, err := s.Stdout.Write(text.Bytes())
	return err
}

// none stands for a name that is not there.
const none = "<none>"

// images prints docker's list.
func (s standin) images(ctx context.Context, c call) error {
	images, err := s.Images(ctx, strings.Join(c.args, ""))
	if err != nil {
		return err
	}
	var text bytes.Buffer
	table := tabwriter.NewWriter(&text, 10, 1, 3, ' ', 0) // docker's own widths
	if !c.quiet {
		fmt.Fprintln(table, "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE")
	}
	for _, image := range images {
		id, names := image.ID, image.RepoTags
		if !c.whole {
			id = builtin.Short(id)
		}
		if len(names) == 0 && len(c.args) == 0 {
			names = []string{none}
		}
		for _, name := range names {
			if c.quiet {
				fmt.Fprintln(table, id)
				break // once is enough
			}
			printLine(table, image, name, id)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = s.Stdout.Write(text.Bytes())
	return err
}

func printLine(w io.Writer, image *arvdocker.Image, name, id string) {
	repository, tag := name, none // none has no colon
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		repository, tag = name[:i], name[i+1:]
	}
	created := "N/A"
	if t, err := time.Parse(time.RFC3339Nano, image.Created); err == nil {
		created = humanize.Time(t)
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", repository, tag, id, created, strings.ReplaceAll(humanize.Bytes(uint64(max(image.Size, 0))), " ", ""))
}
