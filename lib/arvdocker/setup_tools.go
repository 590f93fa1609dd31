// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"embed"
	"encoding/json"
	"net/http"
	"path"
	"strings"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/goccy/go-yaml"
)

// The tools find the image by its name, as they are here; setup pins them to the one
// that it has published.
//
//go:embed cwl/*.cwl
var cwlFiles embed.FS

var cwlNames = []string{"docker-pull.cwl", "docker-build.cwl"}

const (
	// toolsName is the name of the collection of the tools.
	toolsName = "CWL tools docker pull and docker build"
	// dockerPull is the line of a tool that its pin comes after.
	dockerPull = "    dockerPull: " + builtin.Image + "\n"
	// keyPin is Arvados's field of a DockerRequirement that names the image by its
	// portable data hash, and hintRunner its hint with the image of the runner.
	keyPin     = "arv:dockerCollectionPDH"
	hintRunner = "http://arvados.org/cwl#WorkflowRunnerResources"
)

// tool is what a workflow needs to know of a CommandLineTool.
type tool struct {
	Label   string
	Doc     string
	Inputs  []attrs
	Outputs []attrs
}

// publishTools stores the tools in Keep, where they can be steps of workflows, and
// registers a workflow for each, which Workbench can run. image and runner are
// portable data hashes, "" where there is none.
func (u *setup) publishTools(ctx context.Context, image, runner string) error {
	texts := map[string]string{}
	for _, name := range cwlNames {
		text, err := cwlFiles.ReadFile("cwl/" + name)
		if err != nil {
			return err
		}
		texts[name] = strings.Replace(string(text), dockerPull, dockerPull+"    "+keyPin+": "+image+"\n", 1)
	}
	pdh, err := u.publishCollection(ctx, texts, image == "")
	if err != nil {
		return err
	}
	for _, name := range cwlNames {
		var t tool
		if err := yaml.Unmarshal([]byte(texts[name]), &t); err != nil {
			return err
		}
		definition, err := wrapper(t, name, pdh, runner)
		if err == nil {
			err = u.publishWorkflow(ctx, t, definition)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// publishCollection stores the tools, unless there is no image for them yet.
func (u *setup) publishCollection(ctx context.Context, texts map[string]string, early bool) (string, error) {
	thing := published{Kind: "collection", Name: toolsName, State: stateMissing}
	defer func() { u.add(thing) }()
	if early {
		return "", nil
	}
	store := &blockStore{}
	if !u.flags.dryRun {
		kc, err := u.keep(ctx)
		if err != nil {
			return "", err
		}
		store.next = kc
	}
	packer := keepfile.NewPacker(ctx, keepfile.NewWriter(store, 1, arvados.BlockWriteOptions{}))
	defer packer.Abort()
	for _, name := range cwlNames {
		if err := packer.Add(name, strings.NewReader(texts[name])); err != nil {
			return "", err
		}
	}
	files, err := packer.Close()
	if err != nil {
		return "", err
	}
	manifest := keepfile.FormatManifest(files)
	thing.PortableDataHash = arvados.PortableDataHash(manifest)
	var list arvados.CollectionList
	err = u.call(ctx, &list, http.MethodGet, "collections", arvados.ResourceListParams{Filters: []arvados.Filter{
		{Attr: "owner_uuid", Operator: "=", Operand: u.owner},
		{Attr: "portable_data_hash", Operator: "=", Operand: thing.PortableDataHash},
	}, Select: []string{"uuid"}, Count: "none"})
	switch {
	case err != nil:
		return "", err
	case len(list.Items) > 0:
		thing.State, thing.UUID = stateUnchanged, list.Items[0].UUID
	case !u.flags.dryRun:
		var made arvados.Collection
		err = u.call(ctx, &made, http.MethodPost, "collections", attrs{
			"collection": attrs{
				"owner_uuid":    u.owner,
				"name":          toolsName,
				"manifest_text": manifest,
				"properties":    attrs{"type": "workflow"},
			},
			"ensure_unique_name": true,
		})
		thing.State, thing.UUID = stateNew, made.UUID
	}
	return thing.PortableDataHash, err
}

// wrapper is a workflow whose only step is the tool, as arvados-cwl-runner registers
// one (--create-workflow) and Workbench expects it.
func wrapper(t tool, file, tools, runner string) (string, error) {
	step := strings.TrimSuffix(file, path.Ext(file))
	var inputs, outputs, in, out []attrs
	for _, input := range t.Inputs {
		id, _ := input["id"].(string)
		inputs = append(inputs, attrs{"id": "#main/" + id, "type": withoutBinding(input["type"]), "label": input["label"], "doc": input["doc"]})
		in = append(in, attrs{"id": "#main/" + step + "/" + id, "source": "#main/" + id})
	}
	for _, output := range t.Outputs {
		id, _ := output["id"].(string)
		outputs = append(outputs, attrs{"id": "#main/" + id, "type": output["type"], "outputSource": "#main/" + step + "/" + id})
		out = append(out, attrs{"id": "#main/" + step + "/" + id})
	}
	main := attrs{
		"class":        "Workflow",
		"id":           "#main",
		"label":        t.Label,
		"doc":          t.Doc,
		"inputs":       inputs,
		"outputs":      outputs,
		"requirements": []attrs{{"class": "SubworkflowFeatureRequirement"}},
		"steps": []attrs{{
			"id":    "#main/" + step,
			"label": t.Label,
			"run":   "keep:" + tools + "/" + file,
			"in":    in,
			"out":   out,
		}},
	}
	if runner != "" {
		main["hints"] = []attrs{{"class": hintRunner, "acrContainerImage": runner}}
	}
	text, err := json.MarshalIndent(attrs{"cwlVersion": "v1.2", "$graph": []attrs{main}}, "", "    ")
	return string(text), err
}

// withoutBinding is a type without what only a command line needs. One that may be
// null, as a list, is written as Workbench reads it.
func withoutBinding(cwlType interface{}) interface{} {
	switch t := cwlType.(type) {
	case string:
		if plain, optional := strings.CutSuffix(t, "?"); optional {
			return []interface{}{"null", plain}
		}
	case attrs:
		return attrs{"type": t["type"], "items": t["items"]}
	case []interface{}:
		var all []interface{}
		for _, one := range t {
			all = append(all, withoutBinding(one))
		}
		return all
	}
	return cwlType
}

// publishWorkflow registers a workflow, or brings the one of its name up to date.
func (u *setup) publishWorkflow(ctx context.Context, t tool, definition string) error {
	thing := published{Kind: "workflow", Name: t.Label, State: stateMissing}
	type workflow struct {
		UUID        string `json:"uuid"`
		Description string `json:"description"`
		Definition  string `json:"definition"`
	}
	var list struct {
		Items []workflow `json:"items"`
	}
	err := u.call(ctx, &list, http.MethodGet, "workflows", arvados.ResourceListParams{Filters: []arvados.Filter{
		{Attr: "owner_uuid", Operator: "=", Operand: u.owner},
		{Attr: "name", Operator: "=", Operand: t.Label},
	}, Order: "created_at"})
	if err != nil {
		return err
	}
	record := attrs{"workflow": attrs{"owner_uuid": u.owner, "name": t.Label, "description": t.Doc, "definition": definition}}
	made := workflow{}
	switch {
	case len(list.Items) > 0 && list.Items[0].Definition == definition && list.Items[0].Description == t.Doc:
		made, thing.State = list.Items[0], stateUnchanged
	case u.flags.dryRun:
	case len(list.Items) > 0:
		thing.State = stateChanged
		err = u.call(ctx, &made, http.MethodPut, "workflows/"+list.Items[0].UUID, record)
	default:
		thing.State = stateNew
		err = u.call(ctx, &made, http.MethodPost, "workflows", record)
	}
	if err != nil {
		return err
	}
	thing.UUID = made.UUID
	u.add(thing)
	return nil
}
