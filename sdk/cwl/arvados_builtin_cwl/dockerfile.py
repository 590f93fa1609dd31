# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

"""What a Dockerfile takes from its build context.

The answer decides which files go with a recipe, and so when it counts as
changed. It may name more than is needed, never less; the building itself reads
the Dockerfile anew.
"""

import json
import posixpath
import re
from typing import Iterator, List, Optional, Tuple

#: Stands for all of the context.
EVERYTHING = None

_DIRECTIVE = re.compile(r"^#\s*(\w+)\s*=\s*(.+?)\s*$")
_REMOTE = re.compile(r"^(https?|git|ssh)://|^git@", re.IGNORECASE)
_MOUNT = re.compile(r"^--mount=(.*)$", re.IGNORECASE)
#: What the builder treats in a way of its own: variables, quotes, escapes.
_SPECIAL = re.compile(r"[$\"'\\`]|^\s|\s$")


def context_sources(text: str) -> Optional[List[str]]:
    """The paths, or patterns of paths, that the Dockerfile takes from its
    context, sorted; EVERYTHING where they cannot be told from the text.
    """
    sources = set()
    for word, rest in _instructions(text):
        if word == "RUN":
            if any(_mounts_context(flag) for flag in _flags(rest)[0]):
                return EVERYTHING
        elif word in ("COPY", "ADD"):
            flags, rest = _flags(rest)
            if any(flag.lower().startswith("--from=") for flag in flags):
                continue
            for source in _words(rest)[:-1]:
                if source.startswith("<<") or _REMOTE.match(source):
                    continue
                path = posixpath.normpath("/" + source).lstrip("/")
                if not path or _SPECIAL.search(path):
                    return EVERYTHING
                sources.add(path)
    return sorted(sources)


def _instructions(text: str) -> Iterator[Tuple[str, str]]:
    """The instructions, each with what follows its first word. Lines of here
    documents are taken for instructions, which can only add to the sources.
    """
    lines = text.lstrip("\ufeff").splitlines()
    escape = _escape(lines)
    logical = ""
    for line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue  # also between the lines of one instruction
        if stripped.endswith(escape):
            logical += stripped[:-1] + " "
            continue
        logical += stripped
        word, _, rest = logical.partition(" ") if " " in logical else logical.partition("\t")
        yield word.upper(), rest.strip()
        logical = ""
    if logical:
        word, _, rest = logical.partition(" ")
        yield word.upper(), rest.strip()


def _escape(lines: List[str]) -> str:
    """The character that continues a line, which a directive in the first
    lines may change.
    """
    for line in lines:
        directive = _DIRECTIVE.match(line)
        if not directive:
            break
        if directive.group(1).lower() == "escape":
            return directive.group(2)
    return "\\"


def _flags(rest: str) -> Tuple[List[str], str]:
    """The flags at the start of an instruction, and the remainder."""
    flags = []
    while rest.startswith("--"):
        flag, _, rest = rest.partition(" ")
        flags.append(flag)
        rest = rest.lstrip()
    return flags, rest


def _words(rest: str) -> List[str]:
    """The words of an instruction, which may be a JSON list."""
    if rest.startswith("["):
        try:
            words = json.loads(rest)
            if all(isinstance(word, str) for word in words):
                return words
        except ValueError:
            pass
    return rest.split()


def _mounts_context(flag: str) -> bool:
    """Whether a flag of RUN shows the context to the step."""
    mount = _MOUNT.match(flag)
    if not mount:
        return False
    fields = dict(field.partition("=")[::2] for field in mount.group(1).lower().split(","))
    return fields.get("type", "bind") == "bind" and "from" not in fields


def ignore_file(sources: Optional[List[str]], ignored: str) -> str:
    """The text of a .dockerignore that lets through the sources alone, and of
    these what the folder's own .dockerignore (its text is ignored) does.
    """
    if sources is EVERYTHING:
        return ignored
    return "".join("%s\n" % line for line in ["*"] + ["!" + source for source in sources]) + ignored
