# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

import unittest

from arvados_builtin_cwl.dockerfile import EVERYTHING, context_sources, ignore_file


class ContextSources(unittest.TestCase):
    def test_table(self):
        for text, want in [
            ("", []),
            ("FROM debian\nRUN apt-get update\n", []),
            ("FROM a\nCOPY b /c\n", ["b"]),
            ("FROM a\ncopy\tb\t/c\n", ["b"]),
            ("FROM a\n  Add  b c  d/ /e/\n", ["b", "c", "d"]),
            ("FROM a\nCOPY --chown=1:1 --link ./b/../c/. /d\n", ["c"]),
            ("FROM a\nCOPY /b /c\nCOPY ../../b /d\nCOPY b /e\n", ["b"]),
            ("FROM a\nCOPY *.py src/[ab]?.txt /c/\n", ["*.py", "src/[ab]?.txt"]),
            ('FROM a\nCOPY ["b c", "d", "/e/"]\n', ["b c", "d"]),
            ('FROM a\nCOPY ["b", 1]\n', EVERYTHING),
            ("FROM a\nCOPY [b] /c\n", ["[b]"]),
            ("FROM a AS b\nFROM c\nCOPY --from=b /x /y\n", []),
            ("FROM a\nCOPY --chmod=755 --FROM=b /x /y\n", []),
            # All of it
            ("FROM a\nCOPY . /c\n", EVERYTHING),
            ("FROM a\nCOPY / /c\n", EVERYTHING),
            ("FROM a\nADD ./ b /c/\n", EVERYTHING),
            ("FROM a\nARG B\nCOPY $B /c\n", EVERYTHING),
            ("FROM a\nCOPY x${B}.py /c\n", EVERYTHING),
            ('FROM a\nCOPY "b" /c\n', EVERYTHING),
            ("FROM a\nCOPY b\\\\c /c\n", EVERYTHING),
            # Nothing of it
            ("FROM a\nADD https://example.com/b git@example.com:c.git HTTP://x /d/\n", []),
            ("FROM a\nCOPY <<EOF /b\nhello\nEOF\n", []),
            ("FROM a\n# COPY b /c\n", []),
            ("FROM a\nONBUILD COPY b /c\n", []),
            ("FROM a\nRUN COPY b /c\n", []),
            ("FROM a\nCOPY\n", []),
            # Lines that go on
            ("FROM a\nCOPY b \\\n  c \\\n  /d/\n", ["b", "c"]),
            ("FROM a\nCOPY b \\\n# comment\n\n  c /d/\n", ["b", "c"]),
            ("FROM a\r\nCOPY b \\\r\n  /d/\r\n", ["b"]),
            ("# escape=`\nFROM a\nCOPY b `\n  c d/\n", ["b", "c"]),
            ("# syntax=x\n# escape = `\nFROM a\nCOPY b `\n  d/\n", ["b"]),
            ("FROM a\n# escape=`\nCOPY b \\\n  d/\n", ["b"]),
            ("FROM a\nCOPY b c \\", ["b"]),
            # What a step can see
            ("FROM a\nRUN --mount=target=/b ls /b\n", EVERYTHING),
            ("FROM a\nRUN --mount=type=bind,source=b,target=/b ls\n", EVERYTHING),
            ("FROM a\nRUN --network=none --mount=TYPE=bind,target=/b ls\n", EVERYTHING),
            ("FROM a\nRUN --mount=type=bind,from=b,target=/b ls\n", []),
            ("FROM a\nRUN --mount=type=cache,target=/b ls\n", []),
            ("FROM a\nRUN --mount=type=secret,id=b ls\n", []),
            # More than is needed, which does no harm
            ("FROM a\nRUN <<EOF\ncopy b c\nEOF\nCOPY d /e\n", ["b", "d"]),
            ("\ufeffFROM a\nCOPY b c\n", ["b"]),
        ]:
            with self.subTest(text):
                self.assertEqual(context_sources(text), want)

    def test_never_raises(self):
        for text in ["\\", "COPY [", "RUN --mount", "RUN --mount=,,=", "#", "COPY --", "\x00", "# escape=\n", "COPY [1]\nADD {}"]:
            with self.subTest(text):
                context_sources(text)


class IgnoreFile(unittest.TestCase):
    def test_own_lines_come_last(self):
        self.assertEqual(ignore_file(["a", "b/*.py"], "*.pyc\n!c\n"), "*\n!a\n!b/*.py\n*.pyc\n!c\n")

    def test_everything(self):
        self.assertEqual(ignore_file(EVERYTHING, "x"), "x")
        self.assertEqual(ignore_file([], ""), "*\n")
