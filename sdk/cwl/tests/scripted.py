# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

"""A scripted arv-docker, and other stand-ins of the tests."""

import json
import logging
import os
import sys
import tempfile
import types
import unittest

import arvados_cwl
import cwltool.context
import cwltool.load_tool
import cwltool.workflow

arvados_cwl.add_arv_hints()

USER = "zzzzz-tpzed-000000000000000"
STRANGER = "zzzzz-tpzed-111111111111111"
PROJECT = "zzzzz-j7d0g-000000000000000"


def pdh(n):
    """A portable data hash."""
    return "%032x+%d" % (n, 100 + n)


# The program has a folder for itself: in it answers.json, by the first word of
# the command line or by all of it, and what it was called with.
PROGRAM = """#!%s
import glob, json, os, sys, time
home = os.path.dirname(os.path.abspath(__file__))
args = sys.argv[1:]
call = {"args": list(args), "stdin": sys.stdin.read()}
file = args[args.index("--file") + 1] if "--file" in args else "-"
if file != "-":
    call["dockerfile"] = open(file).read()
    call["ignore"] = open(file + ".dockerignore").read() if os.path.exists(file + ".dockerignore") else None
    call["context"] = sorted(os.listdir(args[-1]))
    temporary = os.path.dirname(file)
    call["args"] = [a.replace(temporary, "TMP") for a in args]
with open(home + "/calls.jsonl", "a") as f:
    f.write(json.dumps(call) + "\\n")
answers = json.load(open(home + "/answers.json"))
words = " ".join(call["args"])
key = max((k for k in answers if words.startswith(k)), key=len)
answer = answers[key]
time.sleep(answer.get("sleep", 0))
sys.stderr.write(answer.get("err", ""))
sys.stdout.write(answer.get("out", ""))
sys.exit(answer.get("code", 0))
"""

MISSING = {"code": 1, "out": "[]\n", "err": "arv-docker: find image \"x\": there is no such image in Arvados that you can read (check)\n"}


def image(n, owner=USER):
    """The answer of inspect."""
    return {"out": json.dumps([{"Id": "sha256:x", "Arvados": {"Collection": "zzzzz-4zz18-%015d" % n, "Owner": owner, "PortableDataHash": pdh(n)}}])}


def made(n):
    """The answer of pull and build."""
    return {"out": json.dumps({"portable_data_hash": pdh(n)}), "err": "container request zzzzz-xvhdp-000000000000000\n"}


def context(n):
    """The answer of build --dry-run."""
    return {"out": json.dumps({"mounts": {"/out": {"kind": "tmp"}, "/context": {"kind": "collection", "portable_data_hash": pdh(n)}}})}


class ScriptedTest(unittest.TestCase):
    """A test with a scripted arv-docker and a folder for documents."""

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = os.path.join(home.name, "program")
        self.folder = os.path.join(home.name, "documents")
        os.mkdir(self.home)
        os.mkdir(self.folder)
        self.program = os.path.join(self.home, "arv-docker")
        with open(self.program, "w") as f:
            f.write(PROGRAM % sys.executable)
        os.chmod(self.program, 0o755)
        self.answers = {"inspect": MISSING}
        logging.getLogger("arvados.cwl-runner").setLevel(logging.CRITICAL)

    def script(self, **answers):
        """Sets answers, by command."""
        self.answers.update(answers)
        with open(os.path.join(self.home, "answers.json"), "w") as f:
            json.dump(self.answers, f)

    def calls(self):
        """The calls since the last time."""
        path = os.path.join(self.home, "calls.jsonl")
        if not os.path.exists(path):
            return []
        with open(path) as f:
            calls = [json.loads(line) for line in f]
        os.remove(path)
        return calls

    def commands(self):
        """The command lines since the last time."""
        return [" ".join(call["args"]) for call in self.calls()]

    def write(self, **files):
        """Writes files; in the names, __ stands for a slash and _ for a dot."""
        for name, text in files.items():
            path = os.path.join(self.folder, name.replace("__", "/").replace("_", "."))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", newline="") as f:
                f.write(text)

    def load(self, name):
        """Loads a document, as arvados-cwl-runner does."""
        loading = cwltool.context.LoadingContext()
        loading.construct_tool_object = cwltool.workflow.default_make_tool
        return cwltool.load_tool.load_tool("file://" + os.path.join(self.folder, name), loading)

    def requirement(self, name):
        """The DockerRequirement of a tool."""
        return self.load(name).get_requirement("DockerRequirement")[0]


def run_context(**values):
    """What of arvados-cwl-runner's runtime context counts here."""
    defaults = {"project_uuid": None, "copy_deps": None, "cached_docker_lookups": {}}
    defaults.update(values)
    return types.SimpleNamespace(**defaults)


class ScriptedAPI:
    """An API client with a user, collections and container requests."""

    def __init__(self, collections=(), requests=()):
        self.records = {"collections": list(collections), "container_requests": list(requests)}
        self.created = []

    def users(self):
        return types.SimpleNamespace(current=lambda: _call({"uuid": USER}))

    def collections(self):
        return self._kind("collections")

    def container_requests(self):
        return self._kind("container_requests")

    def _kind(self, kind):
        def matching(filters=(), **_):
            return _call({"items": [r for r in self.records[kind] if all(r.get(f[0]) == f[2] for f in filters)]})

        def create(body, **_):
            record = dict(next(iter(body.values())), uuid="zzzzz-4zz18-created00000000")
            self.created.append(record)
            return _call(record)

        return types.SimpleNamespace(
            list=matching, create=create, get=lambda uuid: _call(next(r for r in self.records[kind] if r["uuid"] == uuid))
        )


def _call(result):
    return types.SimpleNamespace(execute=lambda **_: result)
