# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

"""CWL documents as they were before they were loaded.

Loading puts the text of a Dockerfile where `$include: Dockerfile` was, and so
loses the folder of it. This finds the folder again, by the line.

A place is the absolute path of a local file or folder, or "keep:PDH/path".
"""

import os
import posixpath
import re
import threading
import urllib.parse
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

import arvados.collection
import schema_salad.utils

_KEEP = re.compile(r"^keep:[0-9a-f]{32}\+\d+(/|$)")


class Documents:
    """Reads documents, each one once."""

    def __init__(self):
        self._mutex = threading.Lock()
        self._parsed: Dict[str, Any] = {}

    def include(self, api: Any, requirement: Mapping) -> Optional[str]:
        """The place of the file that the requirement's dockerFile was included
        from; None if the text stands in the document itself, or if the
        document is out of reach.
        """
        document = document_of(requirement)
        position = _position(requirement)
        if document is None or position is None:
            return None
        for node in _nodes(self._parse(api, document)):
            written = node.get("dockerFile")
            if isinstance(written, Mapping) and "$include" in written and _position(node) == position:
                return join(document, written["$include"])
        return None

    def _parse(self, api: Any, document: str) -> Any:
        with self._mutex:
            if document not in self._parsed:
                self._parsed[document] = schema_salad.utils.yaml_no_ts().load(read(api, document))
            return self._parsed[document]


def document_of(requirement: Any) -> Optional[str]:
    """The place of the document that a part of a loaded document is from."""
    return place_of(getattr(getattr(requirement, "lc", None), "filename", None) or "")


def place_of(reference: str) -> Optional[str]:
    """The place that a URI, or a path from the current folder, stands for; None
    for other URIs.
    """
    reference = reference.partition("#")[0]
    if _KEEP.match(reference):
        return reference
    if reference.startswith("file://"):
        return urllib.parse.unquote(reference[len("file://") :])
    if not reference or re.match(r"^[A-Za-z][A-Za-z0-9+.-]*:", reference):
        return None
    path = os.path.abspath(reference)
    if not os.path.exists(path):
        path = urllib.parse.unquote(path)
    return path if os.path.exists(path) else None


def join(document: str, reference: str) -> Optional[str]:
    """The place that a reference in a document means."""
    if _KEEP.match(reference) or reference.startswith("file://"):
        return place_of(reference)
    root, _, path = document.partition("/")
    path = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), reference))
    return (root + path).rstrip("/")


def folder_of(place: str) -> str:
    """The folder that a file is in."""
    return place.rpartition("/")[0]


def is_keep(place: str) -> bool:
    return place.startswith("keep:")


def read(api: Any, place: str) -> str:
    """The text of a file, with line ends as loading a document leaves them."""
    if not is_keep(place):
        with open(place, encoding="utf-8") as file:
            return file.read()
    locator, _, path = place[len("keep:") :].partition("/")
    with arvados.collection.CollectionReader(locator, api_client=api).open(path, "rb") as file:
        return file.read().decode("utf-8").replace("\r\n", "\n")


def _position(node: Any) -> Optional[Tuple[int, int]]:
    """Line and column of the key dockerFile."""
    at = (getattr(getattr(node, "lc", None), "data", None) or {}).get("dockerFile")
    return tuple(at[:2]) if at else None


def _nodes(tree: Any) -> Iterator[Mapping]:
    """All mappings in a document."""
    if isinstance(tree, Mapping):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from _nodes(part)
