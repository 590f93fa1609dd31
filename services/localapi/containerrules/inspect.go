// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// human is an attribute's name as messages begin with it: "Output path".
func human(attr string) string {
	words := strings.ReplaceAll(attr, "_", " ")
	return strings.ToUpper(words[:1]) + words[1:]
}

// inspect writes a value as Ruby would print it in code, which is how messages
// show values. Keys of hashes come in the order of less.
func inspect(v any, less func(a, b string) bool) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case string:
		return inspectString(v)
	case float64:
		return inspectFloat(v)
	case []any:
		parts := make([]string, len(v))
		for i, item := range v {
			parts[i] = inspect(item, less)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		sort.Slice(keys, func(i, j int) bool { return less(keys[i], keys[j]) })
		for i, key := range keys {
			keys[i] = inspectString(key) + "=>" + inspect(v[key], less)
		}
		return "{" + strings.Join(keys, ", ") + "}"
	default:
		return fmt.Sprint(v)
	}
}

// byName is the order of keys in columns of text, which Arvados sorts.
func byName(a, b string) bool { return a < b }

// byLength is the order of keys in PostgreSQL's jsonb columns.
func byLength(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// inspectWritten is inspect of a JSON text with its keys as they stand there.
func inspectWritten(text json.RawMessage) string {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	out, err := inspectTokens(dec)
	if err != nil {
		return string(text)
	}
	return out
}

func inspectTokens(dec *json.Decoder) (string, error) {
	token, err := dec.Token()
	if err != nil {
		return "", err
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return inspect(scalar(token), byName), nil
	}
	var parts []string
	for dec.More() {
		part := ""
		if delim == '{' {
			key, err := dec.Token()
			if err != nil {
				return "", err
			}
			part = inspectString(key.(string)) + "=>"
		}
		value, err := inspectTokens(dec)
		if err != nil {
			return "", err
		}
		parts = append(parts, part+value)
	}
	if _, err := dec.Token(); err != nil {
		return "", err
	}
	if delim == '{' {
		return "{" + strings.Join(parts, ", ") + "}", nil
	}
	return "[" + strings.Join(parts, ", ") + "]", nil
}

var rubyEscapes = map[rune]string{
	'"': `\"`, '\\': `\\`, '\n': `\n`, '\t': `\t`, '\r': `\r`, '\a': `\a`,
	'\b': `\b`, '\v': `\v`, '\f': `\f`, 0x1b: `\e`,
}

func inspectString(s string) string {
	var out strings.Builder
	out.WriteByte('"')
	for i, r := range s {
		escape, ok := rubyEscapes[r]
		switch {
		case ok:
			out.WriteString(escape)
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd"):
			fmt.Fprintf(&out, `\x%02X`, s[i])
		case r == '#' && strings.ContainsAny(next(s, i+1), "{$@"):
			out.WriteString(`\#`) // would begin an interpolation
		case unicode.IsPrint(r):
			out.WriteRune(r)
		case r == 0x7f:
			out.WriteString(`\x7F`)
		case r <= 0xffff:
			fmt.Fprintf(&out, `\u%04X`, r)
		default:
			fmt.Fprintf(&out, `\u{%X}`, r)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// next is the byte of s at i, "" at its end.
func next(s string, i int) string {
	if i < len(s) {
		return s[i : i+1]
	}
	return ""
}

// inspectFloat has at least one digit after the point, and an exponent where
// Ruby has one.
func inspectFloat(f float64) string {
	if size := math.Abs(f); size != 0 && (size < 1e-4 || size >= 1e16) {
		digits := strconv.FormatFloat(f, 'e', -1, 64)
		if mantissa, exponent, _ := strings.Cut(digits, "e"); !strings.Contains(mantissa, ".") {
			return mantissa + ".0e" + exponent
		}
		return digits
	}
	digits := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(digits, ".") {
		digits += ".0"
	}
	return digits
}

// inspectTime shows a time of a record.
func inspectTime(v any) string {
	text, ok := v.(string)
	if !ok {
		return "nil"
	}
	t, err := time.Parse(TimeFormat, text)
	if err != nil {
		return inspectString(text)
	}
	return t.Format("Mon, 02 Jan 2006 15:04:05.000000000") + " UTC +00:00"
}
