// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	check "gopkg.in/check.v1"
	"pgregory.net/rapid"
)

type manifestSuite struct{}

var _ = check.Suite(&manifestSuite{})

// Locators for manifests, of blocks of 10, 20 and BlockSize bytes.
const (
	ten    = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa+10"
	twenty = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb+20+A0123456789012345678901234567890123456789@66666666"
	full   = "cccccccccccccccccccccccccccccccc+67108864"
)

func (*manifestSuite) TestManifestText(c *check.C) {
	c.Check(ManifestText("sha256:abc.tar", []Block{{full, BlockSize}, {full, BlockSize}, {ten, 10}}), check.Equals,
		". "+full+" "+full+" "+ten+" 0:134217738:sha256\\072abc.tar\n")
	c.Check(ManifestText("empty file", nil), check.Equals, ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:empty\\040file\n")
}

func (*manifestSuite) TestParse(c *check.C) {
	for _, trial := range []struct {
		text string
		want []File
	}{
		{"", nil},
		{". " + ten + " 0:10:a\n", []File{{"a", []Segment{{ten, 0, 10}}}}},
		{". " + ten + " " + twenty + " 5:10:a 0:30:b\n", []File{
			{"a", []Segment{{ten, 5, 5}, {twenty, 0, 5}}},
			{"b", []Segment{{ten, 0, 10}, {twenty, 0, 20}}}}},
		{"./dir\\040a/b " + ten + " 2:3:sub/x\\072y\n", []File{{"dir a/b/sub/x:y", []Segment{{ten, 2, 3}}}}},
		// the same path again: one file
		{". " + ten + " 0:1:d/a 9:1:d/a\n./d " + twenty + " 3:4:a\n", []File{
			{"d/a", []Segment{{ten, 0, 1}, {ten, 9, 1}, {twenty, 3, 4}}}}},
		// empty files and directories
		{". d41d8cd98f00b204e9800998ecf8427e+0 0:0:a\n", []File{{"a", nil}}},
		{". " + ten + " 10:0:a\n", []File{{"a", nil}}},
		{"./d/e d41d8cd98f00b204e9800998ecf8427e+0 0:0:\\056\n", []File{{"d/e/", nil}}},
		{". d41d8cd98f00b204e9800998ecf8427e+0 0:0:\\056\n", nil},
		// names that readers take, though writers should have escaped them
		{". " + ten + " 0:1:a\\\\b\\8\\\n", []File{{"a\\b\\8\\", []Segment{{ten, 0, 1}}}}},
		{". " + ten + " 0:1:\\400\n", []File{{"\\400", []Segment{{ten, 0, 1}}}}},
	} {
		files, err := ParseManifest(trial.text)
		c.Check(err, check.IsNil, check.Commentf("%q", trial.text))
		c.Check(files, check.DeepEquals, trial.want, check.Commentf("%q", trial.text))
	}
}

func (*manifestSuite) TestParseRefuses(c *check.C) {
	for text, message := range map[string]string{
		"\n":                                                  `line 1: bad stream name ""`,
		". " + ten + " 0:1:a":                                 `line 1: no newline at the end`,
		". " + ten + " 0:1:a\n\n":                             `line 2: bad stream name ""`,
		" " + ten + " 0:1:a\n":                                `line 1: bad stream name ""`,
		"a " + ten + " 0:1:a\n":                               `line 1: bad stream name "a"`,
		"./ " + ten + " 0:1:a\n":                              `line 1: bad stream name "./"`,
		"./a/../b " + ten + " 0:1:a\n":                        `line 1: bad stream name "./a/../b"`,
		". 0:0:a\n":                                           `line 1: file token "0:0:a" reaches.*|line 1: no locators`,
		". " + ten + "\n":                                     `line 1: no files`,
		".  " + ten + " 0:1:a\n":                              `line 1: bad locator "\+"`,
		". " + ten + " 0:1:a \n":                              `line 1: bad file token ""`,
		". " + ten + " 0:1:a " + ten + "\n":                   `line 1: bad file token ".*\+10"`,
		". aaaa+10 0:1:a\n":                                   `line 1: bad locator "aaaa\+10"`,
		". " + strings.ToUpper(ten) + " 0:1:a\n":              `line 1: bad locator .*`,
		". aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0:1:a\n":          `line 1: bad locator .*`,
		". aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa+67108865 0:1:a\n": `line 1: bad locator .*`,
		". aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa+-1 0:1:a\n":       `line 1: bad locator .*`,
		". " + ten + " 0:11:a\n":                              `line 1: file token "0:11:a" reaches beyond the 10 bytes of the stream`,
		". " + ten + " 11:0:a\n":                              `line 1: file token "11:0:a" reaches beyond .*`,
		". " + ten + " 1:9223372036854775807:a\n":             `line 1: file token .* reaches beyond .*`,
		". " + ten + " -1:1:a\n":                              `line 1: bad file token "-1:1:a"`,
		". " + ten + " 0:1:a:b\n":                             `line 1: bad file token "0:1:a:b"`,
		". " + ten + " 0:1\n":                                 `line 1: bad file token "0:1"`,
		". " + ten + " 0:1:\n":                                `line 1: bad file token "0:1:"`,
		". " + ten + " 0:1:..\n":                              `line 1: bad file token "0:1:.."`,
		". " + ten + " 0:1:a//b\n":                            `line 1: bad file token .*`,
		". " + ten + " 0:1:.\n":                               `line 1: file token "0:1:." names a directory`,
		". " + ten + " 0:1:a\n./a " + ten + " 0:1:b\n":        `line 2: "a" is a file and a directory`,
		"./a " + ten + " 0:1:b\n. " + ten + " 0:1:a\n":        `line 2: "a" is a file and a directory`,
		"./a d41d8cd98f00b204e9800998ecf8427e+0 0:0:.\n. " + ten + " 0:1:a\n": `line 2: "a" is a file and a directory`,
	} {
		files, err := ParseManifest(text)
		c.Check(err, check.ErrorMatches, `keep: read manifest (`+message+`)`, check.Commentf("%q", text))
		c.Check(files, check.IsNil)
	}
}

// What FormatManifest makes of some files. The right-hand sides are what the
// Go SDK of Arvados writes for the same collections.
func (*manifestSuite) TestFormat(c *check.C) {
	for _, trial := range []struct {
		files []File
		want  string
	}{
		{nil, ""},
		{[]File{{"b", []Segment{{ten, 0, 10}}}, {"a", []Segment{{twenty, 0, 20}}}},
			". " + twenty + " " + ten + " 0:20:a 20:10:b\n"},
		// files before directories; directories by name, not by path
		{[]File{{"a-b/x", []Segment{{ten, 0, 1}}}, {"a/x", []Segment{{ten, 1, 1}}}, {"z", nil}},
			". " + emptyLocator + " 0:0:z\n./a " + ten + " 1:1:x\n./a-b " + ten + " 0:1:x\n"},
		// neighbouring pieces are joined, the same block is not repeated at once
		{[]File{{"a", []Segment{{ten, 0, 3}, {ten, 3, 2}, {ten, 7, 1}}}, {"b", []Segment{{ten, 8, 2}}}},
			". " + ten + " 0:5:a 7:1:a 8:2:b\n"},
		{[]File{{"a", []Segment{{full, 0, BlockSize}, {full, 0, BlockSize}}}},
			". " + full + " 0:67108864:a 0:67108864:a\n"},
		{[]File{{"a", []Segment{{ten, 0, 10}, {twenty, 0, 20}, {ten, 0, 10}}}},
			". " + ten + " " + twenty + " " + ten + " 0:40:a\n"},
		{[]File{{"d/e/", nil}, {"d/f", []Segment{{ten, 0, 1}}}, {"g/", nil}, {"g/h", nil}},
			"./d " + ten + " 0:1:f\n./d/e " + emptyLocator + " 0:0:\\056\n./g " + emptyLocator + " 0:0:h\n"},
		{[]File{{"./a b:c\\d\n", nil}}, ". " + emptyLocator + " 0:0:a\\040b\\072c\\134d\\012\n"},
		{[]File{{"é\u00a0\x7f", nil}}, ". " + emptyLocator + " 0:0:é\u00a0\x7f\n"},
	} {
		c.Check(FormatManifest(trial.files), check.Equals, trial.want)
		again, err := ParseManifest(trial.want)
		c.Check(err, check.IsNil)
		c.Check(FormatManifest(again), check.Equals, trial.want)
	}
}

func (*manifestSuite) TestWholeBlock(c *check.C) {
	c.Check(Segment{twenty, 0, 20}.WholeBlock(), check.Equals, true)
	c.Check(Segment{twenty, 0, 19}.WholeBlock(), check.Equals, false)
	c.Check(Segment{twenty, 1, 20}.WholeBlock(), check.Equals, false)
	c.Check(Segment{"nonsense", 0, 0}.WholeBlock(), check.Equals, false)
}

func TestEscapeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := string(rapid.SliceOf(rapid.Byte()).Draw(t, "name"))
		text := escape(name)
		if strings.ContainsAny(text, " :\n\t") || !utf8.ValidString(text) || unescape(text) != name {
			t.Fatalf("%q became %q", name, text)
		}
	})
}

// Any files survive formatting and parsing, in contents and in names.
func TestManifestRoundTrip(t *testing.T) {
	locators := []string{ten, twenty, full}
	rapid.Check(t, func(t *rapid.T) {
		var files []File
		want := map[string]string{}
		for range rapid.IntRange(0, 6).Draw(t, "files") {
			f := File{Path: rapid.StringMatching(`([ab :]{1,2}d/){0,2}[ab \\]{1,2}`).Draw(t, "path")}
			for range rapid.IntRange(0, 5).Draw(t, "segments") {
				locator := rapid.SampledFrom(locators).Draw(t, "locator")
				off := rapid.Int64Range(0, 9).Draw(t, "offset")
				f.Segments = append(f.Segments, Segment{locator, off, rapid.Int64Range(1, 10-off).Draw(t, "length")})
			}
			files = append(files, f)
			want[f.Path] += bytesOf(f)
		}
		parsed, err := ParseManifest(FormatManifest(files))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range parsed {
			if bytesOf(f) != want[f.Path] {
				t.Fatalf("%q is %s, not %s", f.Path, bytesOf(f), want[f.Path])
			}
			delete(want, f.Path)
		}
		if len(want) > 0 {
			t.Fatalf("missing: %v", want)
		}
	})
}

// bytesOf names each byte of a file by its place in a block.
func bytesOf(f File) string {
	var text strings.Builder
	for _, s := range f.Segments {
		for i := range s.Length {
			fmt.Fprintf(&text, "%c%d ", s.Locator[0], s.Offset+i)
		}
	}
	return text.String()
}

// Whatever parses can be formatted, to something that parses to the same.
func FuzzParseManifest(f *testing.F) {
	f.Add(". " + ten + " " + twenty + " 5:10:a 0:30:b\n./d/e " + ten + " 0:0:\\056\n")
	f.Add("./a\\040b " + full + " 7:9:c/d 1:2:c/d\n")
	f.Fuzz(func(t *testing.T, text string) {
		files, err := ParseManifest(text)
		if err != nil {
			return
		}
		formatted := FormatManifest(files)
		again, err := ParseManifest(formatted)
		if err != nil {
			t.Fatalf("%q became %q: %s", text, formatted, err)
		}
		if twice := FormatManifest(again); twice != formatted {
			t.Fatalf("%q became %q", formatted, twice)
		}
	})
}
