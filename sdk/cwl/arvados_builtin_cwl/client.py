# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

"""Calls of the program arv-docker, which decides all that concerns images."""

import collections
import json
import os
import subprocess
import sys
import tempfile
import threading
from typing import Any, Dict, List, NamedTuple, Optional

#: What arv-docker says of an image that Arvados does not have. Its exit code is
#: the same for any other trouble.
NOT_FOUND = "there is no such image in Arvados"


class ClientError(Exception):
    """arv-docker is not there or has failed; the text is for users."""


class Answer(NamedTuple):
    """How a call ended."""

    code: int
    output: str
    messages: str  #: the last of its lines on standard error


class ArvDocker:
    """The program, with the cluster and token of this process's environment.

    Its messages go on to standard error while it runs.
    """

    def __init__(self, program: Optional[str] = None):
        self.program = program or os.environ.get("ARV_DOCKER") or "arv-docker"

    def inspect(self, name: str) -> Optional[Dict[str, Any]]:
        """What is known of an image by its name, hash or portable data hash;
        None if Arvados does not have it.
        """
        answer = self._run(["inspect", "--", name], quiet=True)
        if answer.code != 0:
            if NOT_FOUND in answer.messages:
                return None
            raise self._failure("inspect", answer)
        sys.stderr.write(answer.messages)
        return self._parse("inspect", answer)[0]

    def pull(self, name: str, project: Optional[str]) -> str:
        """Brings an image from its registry into Keep. Returns its portable
        data hash.
        """
        return self._made("pull", _project(project) + ["--", name])

    def build(self, words: List[str], dockerfile: str, names: List[str], project: Optional[str]) -> str:
        """Builds an image. words name Dockerfile and context, and dockerfile is
        what the former "-" means. Returns its portable data hash.
        """
        args = _project(project)
        for name in names:
            args += ["--tag", name]
        return self._made("build", args + words, dockerfile)

    def context_hash(self, words: List[str]) -> str:
        """The portable data hash that the context of a build has, or would
        have: nothing is stored.
        """
        answer = self._run(["build", "--dry-run"] + words, quiet=True)
        if answer.code != 0:
            raise self._failure("build", answer)
        for mount in self._parse("build", answer)["mounts"].values():
            if mount["kind"] == "collection":
                return mount["portable_data_hash"]
        raise ClientError("%s build --dry-run shows no mount of a context" % self.program)

    def tag(self, image: str, name: str) -> None:
        """Gives an image one more name."""
        answer = self._run(["tag", "--", image, name])
        if answer.code != 0:
            raise self._failure("tag", answer)

    def _made(self, command: str, args: List[str], stdin: str = "") -> str:
        """Runs a command that makes an image."""
        answer = self._run([command, "--json"] + args, stdin=stdin)
        if answer.code != 0:
            raise self._failure(command, answer)
        return self._parse(command, answer)["portable_data_hash"]

    def _parse(self, command: str, answer: Answer) -> Any:
        try:
            return json.loads(answer.output)
        except ValueError:
            raise ClientError("%s %s printed %.200r, which is not JSON" % (self.program, command, answer.output))

    def _failure(self, command: str, answer: Answer) -> ClientError:
        last = answer.messages.splitlines()[-1:]
        return ClientError("\n".join(["%s %s failed with exit code %d" % (self.program, command, answer.code)] + last))

    def _run(self, args: List[str], stdin: str = "", quiet: bool = False) -> Answer:
        """Runs the program. With quiet, its messages are only returned."""
        with tempfile.TemporaryFile() as given:
            given.write(stdin.encode("utf-8"))
            given.seek(0)
            try:
                process = subprocess.Popen(
                    [self.program] + args,
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    encoding="utf-8",
                    errors="replace",
                )
            except OSError as e:
                raise ClientError(
                    "cannot run %r, which finds, pulls and builds images: %s; put it into PATH, or set ARV_DOCKER to its path"
                    % (self.program, e.strerror)
                )
        last = collections.deque(maxlen=20)

        def read_messages():
            for line in process.stderr:
                last.append(line)
                if not quiet:
                    sys.stderr.write(line)
                    sys.stderr.flush()

        reader = threading.Thread(target=read_messages, daemon=True)
        reader.start()
        try:
            output = process.stdout.read()
            code = process.wait()
        except BaseException:
            # This process is to end. arv-docker cancels its request first.
            process.terminate()
            process.wait()
            raise
        finally:
            reader.join()
            process.stdout.close()
            process.stderr.close()
        return Answer(code, output, "".join(last))


def _project(project: Optional[str]) -> List[str]:
    return ["--project", project] if project else []
