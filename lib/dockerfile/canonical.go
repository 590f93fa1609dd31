// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile

import (
	"bytes"
	"fmt"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Canonical is what of the Dockerfile can change the image, for a content key:
// the instructions of the stages that the target needs, each as one line, with
// their heredocs, and with the directives that change how they are read. Equal
// bytes mean equal builds, given the same options, triggers and context;
// comments, empty lines, the way an instruction is broken into lines and stages
// that are not needed make no difference. It is not a Dockerfile.
func (r *Recipe) Canonical() []byte { return bytes.Clone(r.canon) }

// canonical relies on this: BuildKit's parser makes an instruction from its
// joined line, the escape character and the heredocs alone.
func (b *build) canonical() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "escape %q\n", b.escape)
	if check, _, _, ok := parser.ParseDirective("check", b.text); ok {
		fmt.Fprintf(&out, "check %q\n", check)
	}
	write := func(ins instruction) {
		fmt.Fprintf(&out, "%q", ins.node.Original)
		for _, heredoc := range ins.node.Heredocs {
			fmt.Fprintf(&out, " %q", heredoc.Content)
		}
		out.WriteByte('\n')
	}
	for _, ins := range b.head {
		write(ins)
	}
	for i, st := range b.stages {
		if !st.needed {
			continue
		}
		// COPY --from may name it by this number.
		fmt.Fprintf(&out, "stage %d\n", i)
		write(st.from)
		for _, ins := range st.own {
			write(ins)
		}
	}
	return out.Bytes()
}
