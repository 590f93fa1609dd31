# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

import json
import os
import shutil
import subprocess
import tempfile
import unittest

import arvados.collection
import arvados_cwl

from . import cluster
from .cluster import HOME, PROGRAMS

BUILD = "docker build"
WORKFLOW = """cwlVersion: v1.2
class: Workflow
inputs: []
outputs: {out: {type: File, outputSource: greet/out}}
steps: {greet: {run: greet.cwl, in: [], out: [out]}}
"""
STEP = """cwlVersion: v1.2
class: CommandLineTool
requirements: {DockerRequirement: {%s}}
inputs: []
outputs: {out: {type: stdout}}
stdout: out.txt
baseCommand: [/bin/busybox, %s]
"""
DOCKERFILE = """FROM scratch
COPY busybox words.txt /bin/
RUN ["/bin/busybox", "sh", "-c", "echo %s $(/bin/busybox cat /bin/words.txt) >/greeting"]
"""


@unittest.skipUnless(PROGRAMS, "needs the programs, in the folder ARVADOS_TEST_PROGRAMS")
class Runs(unittest.TestCase):
    """The genuine arvados-cwl-runner against an embedded cluster."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = cluster.Cluster()
        cls.addClassCleanup(cls.cluster.stop)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        shutil.copy("/bin/busybox", self.folder)
        self.write("wf.cwl", WORKFLOW)
        self.write("greet.cwl", STEP % ("dockerFile: {$include: Dockerfile}", "cat, /greeting"))
        self.write("words.txt", "world of " + self.id())
        self.before = len(self.cluster.commands())

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as f:
            f.write(text)

    def run_cwl(self, *args):
        return self.cluster.run("arvados-cwl-runner", "--disable-color", *args, cwd=self.folder)

    def greeting(self, *args):
        """What the workflow makes."""
        return self.cluster.text(json.loads(self.run_cwl(*args))["out"])

    def since(self):
        """The commands of container requests since the last time."""
        commands = self.cluster.commands()
        commands, self.before = commands[self.before :], len(commands)
        return commands

    def test_edit_and_run_again(self):
        greet = "/bin/busybox cat"
        words = "world of %s\n" % self.id()
        self.write("Dockerfile", DOCKERFILE % "hello")
        self.assertEqual(self.greeting("--local", "wf.cwl"), "hello " + words)
        self.assertEqual(self.since(), [BUILD, greet])
        # Unchanged, with a change to what the recipe does not use
        self.write("README", "something else")
        self.assertEqual(self.greeting("--local", "wf.cwl"), "hello " + words)
        self.assertEqual(self.since(), [greet])
        # An edited Dockerfile
        self.write("Dockerfile", DOCKERFILE % "good morning")
        self.assertEqual(self.greeting("--local", "wf.cwl"), "good morning " + words)
        self.assertEqual(self.since(), [BUILD, greet])
        # An edited file beside it
        self.write("words.txt", "moon")
        self.assertEqual(self.greeting("--local", "wf.cwl"), "good morning moon\n")
        self.assertEqual(self.since(), [BUILD, greet])

    def test_names_with_ports(self):
        registry = cluster.Registry()
        self.addCleanup(registry.stop)
        for name in [registry.address + "/tool", "%s/tool@%s" % (registry.address, cluster.blob(registry.manifest))]:
            self.write("greet.cwl", STEP % ('dockerPull: "%s"' % name, "echo, hi"))
            self.assertEqual(self.greeting("--local", "wf.cwl"), "hi\n")
        self.assertEqual(self.since(), ["docker pull", "/bin/busybox echo", "/bin/busybox echo"])

    def test_recipe_that_fails(self):
        self.write("Dockerfile", 'FROM scratch\nCOPY busybox /\nRUN ["/busybox", "false"]\n')
        with self.assertRaises(AssertionError) as raised:
            self.run_cwl("--local", "wf.cwl")
        self.assertRegex(str(raised.exception), r"(?s)greet\.cwl:3:36: arv-docker build failed with exit code 1.*Dockerfile line\s+3")

    def registered(self, uuid):
        """The collection of a registered workflow."""
        definition = json.loads(self.cluster.api.workflows().get(uuid=uuid).execute()["definition"])
        return definition["$graph"][0]["steps"][0]["run"][len("keep:") :].partition("/")[0]

    def put_runner_image(self):
        """Stores the image of workflow runners, with the adapter."""
        if not hasattr(Runs, "runner_image"):
            with tempfile.TemporaryDirectory() as folder:
                tar = os.path.join(folder, "image.tar")
                jobs = "arvados/jobs:" + arvados_cwl.__version__
                subprocess.check_call(
                    ["curl", "-sf", "--unix-socket", "/var/run/docker.sock", "-o", tar, "http://localhost/images/%s/get" % jobs]
                )
                self.cluster.run("arv-docker", "load", tar)
                os.remove(tar)
                for part in "bin", "arvados_builtin_cwl":
                    shutil.copytree(os.path.join(HOME, part), os.path.join(folder, part), ignore=shutil.ignore_patterns("__pycache__"))
                shutil.copy(os.path.join(PROGRAMS, "arv-docker"), folder)
                with open(os.path.join(folder, "Dockerfile"), "w") as f:
                    f.write(
                        "FROM %s\nCOPY bin /opt/arvados-builtin/bin\nCOPY arvados_builtin_cwl /opt/arvados-builtin/arvados_builtin_cwl\n"
                        "COPY arv-docker /opt/arvados-builtin/bin/\nENV PATH=/opt/arvados-builtin/bin:$PATH\n" % jobs
                    )
                name = "arvados/jobs-builtin:" + arvados_cwl.__version__
                Runs.runner_image = self.cluster.run("arv-docker", "build", "-q", "-t", name, folder).strip()
        self.since()

    def test_registered(self):
        self.put_runner_image()
        words = "world of %s\n" % self.id()
        self.write("Dockerfile", DOCKERFILE % "hello")
        uuid = self.run_cwl("--create-workflow", "wf.cwl").strip()
        self.assertEqual(self.since(), [BUILD])
        self.assertEqual(self.greeting("--submit", uuid), "hello " + words)
        runner = "arvados-cwl-runner --local"
        greet = "/bin/busybox cat"
        self.assertEqual(self.since(), [runner, greet])
        # Edited and updated
        self.write("Dockerfile", DOCKERFILE % "good morning")
        self.assertEqual(self.run_cwl("--update-workflow", uuid, "wf.cwl").strip(), uuid)
        self.assertEqual(self.since(), [BUILD])
        self.assertEqual(self.greeting("--submit", uuid), "good morning " + words)
        self.assertEqual(self.since(), [runner, greet])
        # The stored recipe is edited, and the pin stays: the runner builds, from
        # the files that were stored with the recipe.
        stored = arvados.collection.Collection(self.registered(uuid), api_client=self.cluster.api)
        with stored.open("Dockerfile", "w") as f:
            f.write(DOCKERFILE % "good night")
        stored.save_new()
        location = "keep:%s/wf.cwl" % stored.portable_data_hash()
        self.assertEqual(self.greeting("--submit", location), "good night " + words)
        self.assertEqual(self.since(), [runner, BUILD, greet])
