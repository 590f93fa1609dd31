// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// maxLine is the length that a line may have, in bytes; BuildKit's parser has
// a buffer of one byte more for it.
const maxLine = bufio.MaxScanTokenSize - 1

// file is a Dockerfile as far as its text alone tells.
type file struct {
	text         []byte
	opts         Options
	escape       rune
	lex          *shell.Lex
	recentSyntax int
	instructions []instruction
}

// instruction is one of a Dockerfile or a trigger.
type instruction struct {
	node    *parser.Node
	parsed  any    // of package instructions
	escape  byte   // the escape character that its flags have
	source  chars  // node.Original and where it stands
	line    int    // where it starts; of a trigger, where what brings it starts
	trigger bool   // it comes from ONBUILD
	base    string // image that has the trigger in its config, "" for the file's own
	sources []source
}

// name is the instruction as messages and places call it.
func (ins instruction) name() string {
	if ins.trigger {
		return "ONBUILD " + strings.ToUpper(ins.node.Value)
	}
	return strings.ToUpper(ins.node.Value)
}

// readFile parses text.
func readFile(text []byte, opts Options) (*file, error) {
	f := &file{text: text, opts: opts}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, f.fail(0, errors.New("the file is empty"), "write at least a line FROM image")
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return nil, f.fail(1+bytes.Count(text[:i], []byte("\n")), errors.New("there is a NUL byte"), "save the file as text in UTF-8")
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	for i, line := range lines {
		if len(line) > maxLine {
			return nil, f.fail(i+1, fmt.Errorf("the line is longer than %d bytes", maxLine), "break it up; an instruction goes on after a backslash at the end of a line")
		}
	}
	if err := f.checkDirectives(lines); err != nil {
		return nil, err
	}
	result, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, f.refused(err)
	}
	f.escape, f.lex = result.EscapeToken, shell.NewLex(result.EscapeToken)

	offset, line := 0, 1
	for _, node := range result.AST.Children {
		for ; line < node.StartLine; line++ {
			offset += len(lines[line-1])
		}
		start, end := offset, offset
		if line == 1 {
			start += len(text) - len(bytes.TrimPrefix(text, byteOrderMark))
		}
		for i := line; i <= node.EndLine && i <= len(lines); i++ {
			end += len(lines[i-1])
		}
		parsed, err := instructions.ParseInstruction(node)
		if err != nil {
			return nil, f.refused(err)
		}
		escape := byte(f.escape)
		ins := instruction{node: node, parsed: parsed, line: node.StartLine, escape: escape, source: joined(inFile(text[start:end], start), escape)}
		if err := f.checkRead(ins); err != nil {
			return nil, err
		}
		if len(node.Heredocs) > 0 && f.recentSyntax == 0 {
			f.recentSyntax = node.StartLine
		}
		f.instructions = append(f.instructions, ins)
	}
	return f, nil
}

var (
	byteOrderMark = []byte("\xef\xbb\xbf")
	escapeLine    = regexp.MustCompile(`(?i)^#\s*escape\s*=`)
)

// checkDirectives reads the comments at the top of the file, for which BuildKit
// does not name lines.
func (f *file) checkDirectives(lines [][]byte) error {
	var directives parser.DirectiveParser
	for i, line := range lines {
		line = bytes.TrimSpace(bytes.TrimPrefix(line, byteOrderMark))
		if !bytes.HasPrefix(line, []byte("#")) {
			return nil
		}
		if i > 0 && f.recentSyntax == 0 && escapeLine.Match(line) {
			f.recentSyntax = i + 1
		}
		directive, err := directives.ParseLine(line)
		if err != nil {
			return f.fail(i+1, err, "remove one of them")
		}
		if directive != nil && directive.Name == "escape" && directive.Value != "`" && directive.Value != `\` {
			return f.fail(i+1, errors.New("the escape character must be ` or \\"), "write # escape=` or remove the line")
		}
	}
	return nil
}

// checkRead makes sure that the places in ins are right.
func (f *file) checkRead(ins instruction) error {
	_, flags, _ := ins.split()
	same := slices.EqualFunc(flags, ins.node.Flags, func(c chars, flag string) bool { return c.String() == flag })
	if !same || ins.source.String() != ins.node.Original {
		return f.failIn(ins, errors.New("the instruction is written in a way that can be read differently"), "write it on one line, without quotes and escapes in its flags")
	}
	return nil
}

// split is the name of the instruction, its flags and the rest.
func (ins instruction) split() (name chars, flags []chars, rest chars) {
	name, rest = ins.source.trim().cut()
	flags, rest = splitFlags(rest, ins.escape)
	return name, flags, rest.trim()
}

// parseTrigger reads the text of an ONBUILD trigger, which BuildKit always
// reads with a backslash as escape character. The template says where the
// trigger comes from.
func (f *file) parseTrigger(text chars, template instruction) (instruction, error) {
	result, err := parser.Parse(bytes.NewReader(text.text))
	if err == nil && len(result.AST.Children) != 1 {
		err = errors.New("there must be one instruction after ONBUILD")
	}
	ins := template
	ins.trigger = true
	if err == nil {
		ins.node = result.AST.Children[0]
		ins.parsed, err = instructions.ParseCommand(ins.node)
	}
	if _, again := ins.parsed.(*instructions.OnbuildCommand); again && err == nil {
		err = errors.New("ONBUILD ONBUILD isn't allowed")
	}
	if err != nil {
		return instruction{}, f.failIn(template, plain(err), "")
	}
	ins.escape = parser.DefaultEscapeToken
	ins.source = joined(text, ins.escape)
	return ins, f.checkRead(ins)
}

// refused is an error of BuildKit's parser, which knows its line.
func (f *file) refused(err error) error {
	line := 0
	var located *parser.LocationError
	if errors.As(err, &located) && len(located.Locations) > 0 && len(located.Locations[0]) > 0 {
		line = located.Locations[0][0].Start.Line
	}
	return f.fail(line, plain(err), "")
}

// failIn is an error about an instruction.
func (f *file) failIn(ins instruction, err error, hint string) error {
	if ins.base != "" {
		err = fmt.Errorf("the ONBUILD trigger of %s: %w", ins.base, err)
		hint = "use another base image, or one that was built without this trigger"
	}
	return f.fail(ins.line, err, hint)
}

// plain cuts an error down to what the parser of the instruction said.
func plain(err error) error {
	var located *parser.LocationError
	if errors.As(err, &located) {
		return errors.New(located.Error())
	}
	return err
}

// fail is an error about a line; 0 is the file as a whole.
func (f *file) fail(line int, err error, hint string) error {
	subject := f.opts.Name
	if line > 0 {
		subject = fmt.Sprintf("%s line %d", subject, line)
	}
	return &fault.Error{Op: "check", Side: fault.Request, Subject: subject, Err: err, Hint: hint}
}
