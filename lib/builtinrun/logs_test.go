// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&logsSuite{})

type logsSuite struct{}

// textOf is what a reader of the saved stream would see.
func textOf(l *Logs, name string) string {
	f := l.files[name]
	return string(f.tail)
}

func at(l *Logs, t time.Time) { l.now = func() time.Time { return t } }

func (*logsSuite) TestLinesHaveTheirTimes(c *check.C) {
	l := NewLogs()
	w := l.Stream("stdout.txt")
	at(l, time.Date(2026, 11, 24, 3, 4, 5, 60, time.FixedZone("", 7200)))
	fmt.Fprint(w, "one\ntw")
	at(l, time.Date(2026, 11, 24, 3, 4, 6, 0, time.UTC))
	fmt.Fprint(w, "o\n")
	c.Check(textOf(l, "stdout.txt"), check.Equals,
		"2026-11-24T01:04:05.000000060Z one\n2026-11-24T03:04:06.000000000Z two\n")
}

func (*logsSuite) TestEndsOfLines(c *check.C) {
	for _, trial := range []struct {
		writes []string
		lines  []string
	}{
		{[]string{"a\nb\n"}, []string{"a", "b"}},
		{[]string{"a\r\nb\r\n"}, []string{"a", "b"}},
		{[]string{"a\r", "\nb"}, []string{"a"}},
		{[]string{"10%\r20%\r", "30%\n"}, []string{"10%", "20%", "30%"}},
		{[]string{"\r\ra\n"}, []string{"a"}},
		{[]string{"\n\n"}, []string{"", ""}},
		{[]string{"a\n\nb\n"}, []string{"a", "", "b"}},
		{[]string{""}, nil},
	} {
		l := NewLogs()
		w := l.Stream("x.txt")
		for _, text := range trial.writes {
			n, err := w.Write([]byte(text))
			c.Check(n, check.Equals, len(text))
			c.Check(err, check.IsNil)
		}
		var lines []string
		for _, line := range strings.SplitAfter(textOf(l, "x.txt"), "\n") {
			if line != "" {
				lines = append(lines, strings.TrimSuffix(line[len(timestampFormat):], "\n"))
			}
		}
		c.Check(lines, check.DeepEquals, trial.lines, check.Commentf("%q", trial.writes))
	}
}

// FuzzStream: whatever a program prints, every line begins with a time and
// nothing but a newline ends one; arvados-cwl-runner depends on it.
func FuzzStream(f *testing.F) {
	f.Add([]byte("a\r\nb"), []byte("\nc\r"))
	f.Add([]byte("\x00\xff\r"), []byte("\n"))
	line := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z [^\r\n]*\n$`)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		l := NewLogs()
		w := l.Stream("x.txt")
		w.Write(a)
		w.Write(b)
		l.snapshot(true)
		for _, text := range strings.SplitAfter(textOf(l, "x.txt"), "\n") {
			if text != "" && !line.MatchString(text) {
				t.Errorf("%q makes line %q", [][]byte{a, b}, text)
			}
		}
	})
}

func (*logsSuite) TestSecretsAreHidden(c *check.C) {
	l := NewLogs()
	hideAll(l, `{"auths": {"registry.example.com": {"username": "alice", "password": "pass-word", "auth": "`+
		base64.StdEncoding.EncodeToString([]byte("alice:other-word"))+`"}}}`)
	hideAll(l, map[string]interface{}{"list": []interface{}{"in-a-list"}, "n": 7})
	l.Hide("v2/zzzzz-gj3su-0/secret/zzzzz-dz642-0")
	l.Hide("secret-tail")
	w := l.Stream("stderr.txt")
	for _, secret := range []string{"pass-word", "other-word", "in-a-list", "v2/zzzzz-gj3su-0/secret/zzzzz-dz642-0", "secret-tail"} {
		fmt.Fprintf(w, "before %s", secret[:3]) // a secret may come in two writes
		fmt.Fprintf(w, "%s after\n", secret[3:])
		c.Check(l.Clean("<"+secret+">"), check.Equals, "<"+hidden+">")
	}
	c.Check(strings.Count(textOf(l, "stderr.txt"), "before [secret] after\n"), check.Equals, 5)
	c.Check(l.Clean("alice"), check.Equals, "alice")
}

// Passwords are hidden as they stand in a URL, and as they are meant.
func (*logsSuite) TestPasswordsInCommands(c *check.C) {
	for _, trial := range []struct{ command, hidden string }{
		{"https://alice:pass-word@example.com/x.git#main", "pass-word"},
		{"https://:pass-word@example.com", "pass-word"},
		{"ssh://alice:pass@word@example.com:22/x", "pass@word"},
		{"https://alice:pass%2Fword@example.com/x.git", "pass%2Fword pass/word"},
		{"--build-arg=INDEX=https://alice:pass-word@example.com/simple", "pass-word"},
		{"https://a:first-word@b/ https://c:second-word@d/", "first-word second-word"},
		{"https://example.com:8080/@scope", ""},
		{"https://alice@example.com:8080", ""},
		{"ssh://git@example.com/x", ""},
		{"https://ghp_0123456789abcdefghijklmnopqrstuvwxyz@example.com/x.git", "ghp_0123456789abcdefghijklmnopqrstuvwxyz"},
		{"https://0123456789abcdefghij:@example.com/x.git", "0123456789abcdefghij"},
		{"registry.example.com:5000/app@sha256:0123", ""},
	} {
		l := NewLogs()
		hidePasswords(l, []string{"docker", "build", trial.command})
		secrets := strings.Fields(trial.hidden)
		for _, secret := range secrets {
			c.Check(l.Clean("<"+secret+">"), check.Equals, "<"+hidden+">", check.Commentf(trial.command))
		}
		c.Check(strings.Count(l.Clean(trial.command), hidden) > 0, check.Equals, len(secrets) > 0, check.Commentf(trial.command))
	}
}

// What crunch-run prints and returns has no secrets either, but the error is the
// same for programs.
func (*logsSuite) TestCleanOutside(c *check.C) {
	l := NewLogs()
	l.Hide("pass-word")
	var out strings.Builder
	n, err := l.cleanTo(&out).Write([]byte("my pass-word\n"))
	c.Check(err, check.IsNil)
	c.Check(n, check.Equals, len("my pass-word\n"))
	c.Check(out.String(), check.Equals, "my [secret]\n")
	r, w := io.Pipe()
	r.CloseWithError(io.ErrClosedPipe)
	_, err = l.cleanTo(w).Write([]byte("x"))
	c.Check(err, check.Equals, io.ErrClosedPipe)

	err = l.cleanError(fmt.Errorf("refused: pass-word: %w", io.ErrUnexpectedEOF))
	c.Check(err, check.ErrorMatches, `refused: \[secret\]: unexpected EOF`)
	c.Check(errors.Is(err, io.ErrUnexpectedEOF), check.Equals, true)
	c.Check(l.cleanError(nil), check.IsNil)
}

func (*logsSuite) TestOrdinaryWordsStay(c *check.C) {
	l := NewLogs()
	l.Hide("abc") // too short to be a secret, would garble words
	c.Check(l.Clean("abcdef"), check.Equals, "abcdef")
}

// saved is the content of each file of a saved log collection.
func saved(c *check.C, l *Logs, keep *keeptest.Client, final bool) map[string]string {
	manifest, err := l.Save(context.Background(), keep, final)
	c.Assert(err, check.IsNil)
	files, err := keepfile.ParseManifest(manifest)
	c.Assert(err, check.IsNil)
	contents := map[string]string{}
	for _, file := range files {
		r := keepfile.NewReader(context.Background(), keep, file)
		text, err := io.ReadAll(r)
		c.Assert(err, check.IsNil)
		r.Close()
		contents[file.Path] = string(text)
	}
	return contents
}

func (*logsSuite) TestSave(c *check.C) {
	l, keep := NewLogs(), keeptest.New().As("token")
	at(l, time.Unix(0, 0))
	const time0 = "1970-01-01T00:00:00.000000000Z "
	w := l.Stream("stdout.txt")
	l.Stream("stderr.txt")
	l.Put("node.json", []byte(`{"VCPUs": 1}`))
	fmt.Fprint(w, "one\nunfinished")
	c.Check(l.Grown(), check.Equals, true)
	c.Check(saved(c, l, keep, false), check.DeepEquals, map[string]string{
		"stdout.txt": time0 + "one\n", "stderr.txt": "", "node.json": `{"VCPUs": 1}`})
	c.Check(l.Grown(), check.Equals, false)
	fmt.Fprint(w, " line\nlast")
	c.Check(saved(c, l, keep, true), check.DeepEquals, map[string]string{
		"stdout.txt": time0 + "one\n" + time0 + "unfinished line\n" + time0 + "last\n", "stderr.txt": "", "node.json": `{"VCPUs": 1}`})
}

// A long log is not held in memory, nor written again at each save.
func (*logsSuite) TestLongLogs(c *check.C) {
	store := keeptest.New()
	l, keep := NewLogs(), store.As("token")
	w := l.Stream("stdout.txt")
	line := strings.Repeat("x", 1000) + "\n"
	var want int
	for range 3 {
		for range 10000 {
			fmt.Fprint(w, line)
			want += len(timestampFormat) + len(line)
		}
		text := saved(c, l, keep, false)["stdout.txt"]
		c.Check(text, check.HasLen, want)
		c.Check(len(l.files["stdout.txt"].tail) < tailLimit, check.Equals, true)
	}
	c.Check(store.Stored() <= int64(want), check.Equals, true)
}

func (*logsSuite) TestSaveFails(c *check.C) {
	l, store := NewLogs(), keeptest.New()
	fmt.Fprintln(l.Stream("stdout.txt"), "one")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := l.Save(ctx, store.As("token"), false)
	c.Check(err, check.NotNil)
	c.Check(l.Grown(), check.Equals, true) // still to be saved
	c.Check(saved(c, l, store.As("token"), false)["stdout.txt"], check.Matches, ".* one\n")
}
