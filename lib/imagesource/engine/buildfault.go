// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"github.com/docker/docker/client"
	"github.com/moby/buildkit/solver/errdefs"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// BuildError is a step of a Dockerfile that failed.
type BuildError struct {
	Line        int      // of the Dockerfile, from 1; 0 if the engine does not say
	Instruction string   // "RUN make", in one line
	ExitCode    int      // of the program; 0 if no program ended
	Output      []string // the last lines, 20 at most, that it printed
	Err         error    // what the engine says
}

// Error is one line: "Dockerfile line 7: RUN make: exit code 2". It has no
// output of the step.
func (e *BuildError) Error() string {
	text := "Dockerfile"
	if e.Line > 0 {
		text += fmt.Sprintf(" line %d", e.Line)
	}
	if e.Instruction != "" {
		text += fmt.Sprintf(": %.200s", e.Instruction) // one with a heredoc is long
	}
	if e.ExitCode > 0 {
		return text + fmt.Sprintf(": exit code %d", e.ExitCode)
	}
	return text + ": " + oneLine(e.Err.Error())
}

// Unwrap gives what the engine says.
func (e *BuildError) Unwrap() error { return e.Err }

// killed is the exit code of a program that ended by SIGKILL: 128 + 9.
const killed = 137

var (
	exitCode = regexp.MustCompile(`exit code: (\d+)`)
	// instruction in the name of a step: "[2/5] RUN make", "[build 1/2] …".
	instruction = regexp.MustCompile(`^\[[^\]]*\] (.*)$`)
	// parseLine is where the frontend found a mistake.
	parseLine = regexp.MustCompile(`(?i)dockerfile parse error (?:on )?line (\d+)`)
)

// buildRules give meaning to messages of the builder that are not about a step
// of the recipe. They come before pullRules.
var buildRules = []pullRule{
	{texts: []string{"target stage", "failed to reach build target"}, side: fault.Request, hint: "--target must name a stage of the Dockerfile"},
	{texts: []string{"no build stage in current context", "file with no instructions", "dockerfile cannot be empty", "failed to parse platform"}, side: fault.Request},
	{texts: []string{"invalid containerport", "invalid proto:", "no port specified", "invalid signal"}, side: fault.Request},
	{texts: []string{"network bridge not found", "runc did not terminate", "oci runtime create failed", "failed to mount"}, side: fault.Engine, transient: true},
}

// buildFault is a failed build as an error of the side that failed.
func (b *build) buildFault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		// The builder answers in many ways when it is told to stop.
		return b.fault("build", "", ctx.Err())
	}
	if client.IsErrConnectionFailed(err) || status.Code(err) == codes.Unavailable {
		return b.fault("build", "", err)
	}
	text := strings.ToLower(err.Error())
	if strings.Contains(text, "no space left on device") && !exitCode.MatchString(text) {
		return b.fault("build", "", err)
	}
	failed := b.buildError(err)
	if failed.ExitCode > 0 {
		return b.stepFault(failed)
	}
	if m := parseLine.FindStringSubmatch(err.Error()); m != nil {
		failed.Line, _ = strconv.Atoi(m[1])
		failed.Instruction = b.instructionAt(failed.Line, failed.Line)
		return b.stepFault(failed)
	}
	f := &fault.Error{Op: "build", Side: fault.Engine, Subject: b.cli.DaemonHost(), Err: errors.New(b.steps.names.Replace(oneLine(err.Error()))), Transient: true}
	rules := buildRules
	fetching := b.fetching(text)
	if fetching {
		rules = append(rules[:len(rules):len(rules)], pullRules...)
	}
	bare := withoutNames(err.Error(), imageref.Ref{})
	for _, rule := range rules {
		for _, t := range rule.texts {
			if strings.Contains(bare, t) {
				f.Side, f.Transient, f.Hint = rule.side, rule.transient, rule.hint
				return f
			}
		}
	}
	if fetching && strings.HasSuffix(bare, "not found") {
		f.Side, f.Transient, f.Hint = fault.Registry, false, hintMissing
		return f
	}
	if failed.Instruction != "" || strings.Contains(text, "failed to load cache key") || strings.Contains(text, "failed to create llb definition") {
		return b.stepFault(failed)
	}
	return f
}

// fetching reports whether an error is about bringing an image from a registry.
func (b *build) fetching(text string) bool {
	if step := b.steps.failed; step != nil && (strings.Contains(step.name, "load metadata for") || strings.Contains(step.name, "] FROM ")) {
		return true
	}
	return strings.Contains(text, "failed to resolve source metadata") || strings.Contains(text, "failed to create llb definition")
}

func (b *build) stepFault(failed *BuildError) error {
	f := &fault.Error{Side: fault.Build, Err: failed}
	if failed.ExitCode == killed {
		f.Hint = "the step was killed, most likely because it needed more memory than there was"
		if b.limited && b.req.Memory > 0 {
			f.Hint = fmt.Sprintf("the step was killed, most likely because it needed more memory than the %d MiB of the request: ask for more RAM", b.req.Memory>>20)
		}
	}
	return f
}

// buildError finds out which instruction failed: from the source that newer
// engines attach to the error, else by the name of the step.
func (b *build) buildError(err error) *BuildError {
	failed := &BuildError{Err: err}
	if m := exitCode.FindStringSubmatch(err.Error()); m != nil {
		failed.ExitCode, _ = strconv.Atoi(m[1])
	}
	if step := b.steps.failed; step != nil {
		failed.Output = step.output
		if m := instruction.FindStringSubmatch(step.name); m != nil && !step.internal {
			failed.Instruction = m[1]
			failed.Line = b.lineOf(m[1])
		} else if before, _, found := strings.Cut(string(b.req.Dockerfile), step.name); found && step.name != "" { // the URL of an ADD
			failed.Line = 1 + strings.Count(before, "\n")
			failed.Instruction = b.instructionAt(failed.Line, failed.Line)
		}
	}
	for _, source := range errdefs.Sources(err) {
		if len(source.Ranges) == 0 {
			continue
		}
		first, last := source.Ranges[0].Start.Line, source.Ranges[0].Start.Line
		for _, lines := range source.Ranges { // one for each line, from some engines
			last = max(last, lines.Start.Line, lines.End.Line)
		}
		failed.Line = int(first)
		if text := b.instructionAt(int(first), int(last)); text != "" {
			failed.Instruction = text
		}
	}
	return failed
}

// instructionAt is the text between two lines of the Dockerfile, in one line.
func (b *build) instructionAt(first, last int) string {
	lines := strings.Split(string(b.req.Dockerfile), "\n")
	if first < 1 || first > len(lines) {
		return ""
	}
	var words []string
	for _, line := range lines[first-1 : min(last, len(lines))] {
		words = append(words, strings.TrimSuffix(strings.TrimSpace(line), `\`))
	}
	return b.steps.names.Replace(oneLine(strings.Join(words, " ")))
}

// lineOf finds an instruction in the Dockerfile; 0 if it is not there or there
// twice.
func (b *build) lineOf(text string) int {
	found := 0
	for i, line := range strings.Split(string(b.req.Dockerfile), "\n") {
		start := b.steps.names.Replace(strings.TrimSuffix(oneLine(line), "\\"))
		if start != "" && strings.HasPrefix(text, start) {
			if found > 0 {
				return 0
			}
			found = i + 1
		}
	}
	return found
}
