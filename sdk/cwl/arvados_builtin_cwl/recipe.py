# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

"""Recipes of images: a Dockerfile, and the files that it takes from its context.

A recipe has a key. Images are found again by it, and a pin in a document counts
only for the recipe that was pinned.
"""

import contextlib
import hashlib
import os
import tempfile
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from . import documents
from .client import ArvDocker
from .dockerfile import EVERYTHING, context_sources, ignore_file

_ARV = "http://arvados.org/cwl#"
#: The image's portable data hash; known to arvados-cwl-runner.
PIN = _ARV + "dockerCollectionPDH"
#: The key of the recipe that PIN is for.
RECIPE = _ARV + "dockerRecipe"
#: The build context: a folder, relative to the document, or "keep:PDH".
CONTEXT = _ARV + "dockerContext"

#: Images are named by the keys of their recipes, too.
KEY_NAME = "arvados/recipe:%s"


def field(requirement: Mapping, key: str) -> Any:
    """A value of an extension key, which in documents that are not loaded yet
    has a prefix instead of the URI.
    """
    if key in requirement:
        return requirement[key]
    for written in requirement:
        if written.endswith(":" + key[len(_ARV) :]):
            return requirement[written]
    return None


def set_field(requirement: Any, key: str, value: Optional[str]) -> None:
    """Sets an extension key, or removes it if value is None."""
    for written in list(requirement):
        if written == key or written.endswith(":" + key[len(_ARV) :]):
            del requirement[written]
    if value is not None:
        requirement[key] = value


class Recipe(NamedTuple):
    """What an image is made from. Equal ones make equal images."""

    text: str  #: of the Dockerfile
    context: Optional[str]  #: the place of the folder; None for no files at all
    sources: Optional[Tuple[str, ...]]  #: what is needed of it, EVERYTHING for all
    ignored: str  #: text of the ignore file of a local folder

    @contextlib.contextmanager
    def words(self) -> Iterator[List[str]]:
        """The words by which arv-docker build takes the recipe: its Dockerfile
        and its context.
        """
        if self.context is not None and documents.is_keep(self.context):
            yield ["--file", "-", self.context]
            return
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "Dockerfile")
            _write(file, self.text)
            context = self.context
            if context is None:
                context = os.path.join(folder, "empty")
                os.mkdir(context)
            else:
                _write(file + ".dockerignore", ignore_file(self.sources, self.ignored))
            yield ["--file", file, context]

    def kept_context(self, client: ArvDocker) -> Optional[str]:
        """The context as "keep:PDH", where building puts it."""
        if self.context is None or documents.is_keep(self.context):
            return self.context
        with self.words() as words:
            return "keep:" + client.context_hash(words)

    def lacks_files(self) -> bool:
        """Whether the Dockerfile takes files and no folder is known for it."""
        return self.context is None and context_sources(self.text) != []

    def key(self, kept_context: Optional[str]) -> str:
        """The recipe's key, 64 hexadecimal digits."""
        return hashlib.sha256(("%s\n%s" % (kept_context or "", self.text)).encode("utf-8")).hexdigest()


def recipe_of(read: documents.Documents, api: Any, requirement: Mapping, document: Optional[str]) -> Recipe:
    """The recipe of a DockerRequirement that has a dockerFile. document is the
    place of the document if the requirement is not loaded yet.
    """
    document = documents.document_of(requirement) or document
    written = requirement["dockerFile"]
    if isinstance(written, Mapping):
        included = documents.join(document or "/", written["$include"])
        text = documents.read(api, included)
    else:
        included = read.include(api, requirement)
        text = written
    sources = context_sources(text)
    override = field(requirement, CONTEXT)
    if override:
        context = documents.join(document or "/", override)
        if not documents.is_keep(context) and not os.path.isdir(context):
            raise ValueError("%s: there is no folder %r" % (CONTEXT, context))
        sources = EVERYTHING
    elif sources == [] or included is None:
        context = None
    else:
        context = documents.folder_of(included)
    if context is None or documents.is_keep(context):
        return Recipe(text, context, EVERYTHING, "")
    return Recipe(text, context, sources if sources is EVERYTHING else tuple(sources), _ignored(included, context))


def _ignored(dockerfile: Optional[str], folder: str) -> str:
    """The text of the ignore file that docker would take."""
    names = [os.path.join(folder, ".dockerignore")]
    if dockerfile is not None:
        names.insert(0, dockerfile + ".dockerignore")
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            return documents.read(None, name)
    return ""


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)
