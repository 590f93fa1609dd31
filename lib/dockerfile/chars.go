// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// chars is text of which each byte knows where it stands in the file. BuildKit
// tells lines only, and by the time it has a flag's value, continuations,
// comments, quotes and escapes are gone. So its lexers are followed here step
// by step; the outcome is compared with theirs before it is used.
type chars struct {
	text []byte
	at   []span // as long as text
}

// span is a range of offsets in the file. What is not in the file has none.
type span struct{ start, end int }

// inFile is text that stands at this offset of the file.
func inFile(text []byte, offset int) chars {
	c := chars{text: text, at: make([]span, len(text))}
	for i := range text {
		c.at[i] = span{offset + i, offset + i + 1}
	}
	return c
}

// elsewhere is text that is not in the file.
func elsewhere(text string) chars {
	return chars{text: []byte(text), at: make([]span, len(text))}
}

func (c chars) slice(i, j int) chars { return chars{c.text[i:j:j], c.at[i:j:j]} }
func (c chars) from(i int) chars     { return c.slice(i, len(c.text)) }
func (c chars) plus(other chars) chars {
	return chars{append(c.text, other.text...), append(c.at, other.at...)}
}
func (c chars) String() string          { return string(c.text) }
func (c chars) hasPrefix(s string) bool { return strings.HasPrefix(string(c.text), s) }

// placed reports whether c can be replaced in the file.
func (c chars) placed() bool {
	for _, at := range c.at {
		if at.end == 0 {
			return false
		}
	}
	return len(c.text) > 0
}

func (c chars) trimLeft() chars {
	return c.from(len(c.text) - len(bytes.TrimLeftFunc(c.text, unicode.IsSpace)))
}

func (c chars) trim() chars {
	c = c.trimLeft()
	return c.slice(0, len(bytes.TrimRightFunc(c.text, unicode.IsSpace)))
}

// cut splits at the first white space as between the words of an instruction.
func (c chars) cut() (word, rest chars) {
	i := bytes.IndexAny(c.text, "\t\v\f\r ")
	if i < 0 {
		return c, chars{}
	}
	j := i
	for j < len(c.text) && strings.IndexByte("\t\v\f\r ", c.text[j]) >= 0 {
		j++
	}
	return c.slice(0, i), c.from(j)
}

// joined is the instruction that source starts with, as one line: without
// continuations, and without comments and empty lines between them.
func joined(source chars, escape byte) chars {
	var line chars
	for first := true; len(source.text) > 0; first = false {
		end := bytes.IndexByte(source.text, '\n') + 1
		if end == 0 {
			end = len(source.text)
		}
		part := source.slice(0, len(bytes.TrimRight(source.text[:end], "\r\n")))
		source = source.from(end)
		if first {
			part = part.trimLeft()
		} else if rest := part.trimLeft(); len(rest.text) == 0 || rest.text[0] == '#' {
			continue
		}
		if n := len(bytes.TrimRight(part.text, " \t")); n > 0 && part.text[n-1] == escape && (n == 1 || part.text[n-2] != escape) {
			line = line.plus(part.slice(0, n-1))
			continue
		}
		return line.plus(part)
	}
	return line
}

// splitFlags takes the words that start with -- off what follows the name of an
// instruction.
func splitFlags(line chars, escape byte) (flags []chars, rest chars) {
	for {
		// Like BuildKit, which looks at single bytes here.
		for len(line.text) > 0 && unicode.IsSpace(rune(line.text[0])) {
			line = line.from(1)
		}
		if !line.hasPrefix("--") {
			return flags, line
		}
		var word chars
		word, line = flagWord(line, escape)
		if word.String() == "--" {
			return flags, line
		}
		flags = append(flags, word)
	}
}

// flagWord is the first word of line without its quotes and escapes.
func flagWord(line chars, escape byte) (word, rest chars) {
	var quote byte
	for i := 0; i < len(line.text); i++ {
		ch, at := line.text[i], line.at[i]
		switch {
		case quote == 0 && unicode.IsSpace(rune(ch)):
			return word, line.from(i)
		case quote == 0 && (ch == '\'' || ch == '"'):
			quote = ch
			continue
		case quote != 0 && ch == quote:
			quote = 0
			continue
		case ch == escape:
			if i+1 == len(line.text) {
				continue
			}
			i++
			ch, at.end = line.text[i], line.at[i].end
		}
		// BuildKit takes bytes for runes, so one of 0x80 or more becomes two.
		for _, b := range utf8.AppendRune(nil, rune(ch)) {
			word.text, word.at = append(word.text, b), append(word.at, at)
		}
	}
	return word, chars{}
}

// lastField is the value of the last field with this key in the value of a
// --mount flag, which is a line of CSV.
func lastField(line chars, key string) chars {
	var found chars
	for len(line.text) > 0 {
		var field chars
		field, line = csvField(line)
		if name, _, ok := strings.Cut(field.String(), "="); ok && strings.ToLower(name) == key {
			found = field.from(len(name) + 1)
		}
	}
	return found
}

func csvField(line chars) (field, rest chars) {
	if line.text[0] != '"' {
		i := bytes.IndexByte(line.text, ',')
		if i < 0 {
			return line, chars{}
		}
		return line.slice(0, i), line.from(i + 1)
	}
	for i := 1; i < len(line.text); i++ {
		at := line.at[i]
		if line.text[i] == '"' {
			i++
			if i == len(line.text) || line.text[i] != '"' {
				return field, line.from(min(i+1, len(line.text)))
			}
			at.end = line.at[i].end
		}
		field.text, field.at = append(field.text, line.text[i]), append(field.at, at)
	}
	return field, chars{}
}
