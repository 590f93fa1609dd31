# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

import os
import subprocess
import sys
import tempfile
import unittest

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LAUNCHER = os.path.join(HOME, "bin", "arvados-cwl-runner")

# What of arvados_cwl the adapter looks at.
PACKAGE = {
    "__init__": "__version__ = '9.9.9'\ndef main(args): print('genuine', args); return 7\nclass ArvCwlExecutor: pass\n",
    "arvdocker": "def arv_docker_get_image(api_client, dockerRequirement, pull_image, runtimeContext): pass\n",
    "runner": "def arvados_jobs_image(arvrunner, img, runtimeContext): pass\n",
    "arvcontainer": "from .arvdocker import arv_docker_get_image\nfrom .runner import arvados_jobs_image\n",
    "arvworkflow": "from .arvdocker import arv_docker_get_image\n"
    "def update_refs(api, d, baseuri, urlexpander, merged_map, jobmapper, runtimeContext, prefix, replacePrefix): pass\n",
}


class Replace(unittest.TestCase):
    def run_with(self, code, **changed):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "arvados_cwl"))
            for name, text in dict(PACKAGE, **changed).items():
                if text is not None:
                    with open(os.path.join(folder, "arvados_cwl", name + ".py"), "w") as f:
                        f.write(text)
            env = dict(os.environ, PYTHONPATH=folder + ":" + HOME)
            return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)

    MAIN = "import sys; from arvados_builtin_cwl.main import main; sys.exit(main(['a', 'b']))"

    def test_runs_the_genuine_program(self):
        r = self.run_with(self.MAIN)
        self.assertEqual((r.returncode, r.stdout, r.stderr), (7, "genuine ['a', 'b']\n", ""))

    def test_replaces_everywhere(self):
        r = self.run_with(
            "from arvados_builtin_cwl import main; main.replace()\n"
            "from arvados_cwl import arvdocker, runner, arvcontainer, arvworkflow\n"
            "for f in [arvdocker.arv_docker_get_image, arvcontainer.arv_docker_get_image, arvworkflow.arv_docker_get_image,\n"
            "          runner.arvados_jobs_image, arvcontainer.arvados_jobs_image, arvworkflow.update_refs]: print(f.__name__)"
        )
        self.assertEqual(r.stdout.split(), ["get_image", "get_image", "pin_image", "runner_image", "runner_image", "update_refs"], r.stderr)

    def test_refuses_what_it_does_not_fit(self):
        for changed, want in [
            ({"arvworkflow": PACKAGE["arvworkflow"].replace("update_refs", "update")}, "it has no arvados_cwl.arvworkflow.update_refs"),
            ({"runner": "def arvados_jobs_image(img): pass\n"}, "arvados_cwl.runner.arvados_jobs_image has the parameters img instead of arvrunner, img, runtimeContext"),
            ({"arvcontainer": ""}, "arvados_cwl.arvcontainer does not use arv_docker_get_image"),
            ({"arvcontainer": None}, "arvados_cwl.arvcontainer cannot be loaded: No module named 'arvados_cwl.arvcontainer'"),
        ]:
            with self.subTest(want):
                r = self.run_with(self.MAIN, **changed)
                self.assertEqual((r.returncode, r.stdout), (1, ""))
                self.assertEqual(
                    r.stderr,
                    "arvados-cwl-runner: the adapter for images does not fit arvados-cwl-runner 9.9.9: %s. It fits 3.0.0 and later; install a newer adapter\n" % want,
                )

    def test_nothing_installed(self):
        r = subprocess.run([sys.executable, "-S", "-c", "import sys; sys.path.append(%r); " % HOME + self.MAIN], env={}, capture_output=True, text=True)
        self.assertEqual(r.returncode, 1)
        self.assertIn("does not fit arvados-cwl-runner (none): arvados_cwl.arvdocker cannot be loaded: No module named 'arvados_cwl'", r.stderr)

    def test_the_installed_one(self):
        import arvados_cwl

        r = subprocess.run([sys.executable, "-c", self.MAIN.replace("'a', 'b'", "'--version'")], env=dict(os.environ, PYTHONPATH=HOME), capture_output=True, text=True)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        self.assertIn(arvados_cwl.__version__, r.stdout)


class Launcher(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def launch(self, path, launcher=LAUNCHER):
        env = dict(os.environ, PATH=path + ":/usr/bin:/bin")
        return subprocess.run([launcher, "--version"], env=env, capture_output=True, text=True)

    def genuine(self, text, folder="genuine"):
        """Writes a program that pip could have installed, and returns its folder."""
        folder = os.path.join(self.folder, folder)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "arvados-cwl-runner")
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o755)
        return folder

    def test_finds_its_python(self):
        os.symlink(sys.executable, os.path.join(self.folder, "python-of-mine"))
        for text in [
            "#!%s\nimport x\n" % sys.executable,
            "#!/bin/sh\n'''exec' %s \"$0\" \"$@\"\n' '''\nimport x\n" % sys.executable,
            "#!/bin/sh\n'''exec' \"%s\" \"$0\" \"$@\"\n' '''\nimport x\n" % sys.executable,
            "#!/usr/bin/env python-of-mine\nimport x\n",
        ]:
            with self.subTest(text):
                folder = self.genuine(text)
                r = self.launch(":".join([os.path.dirname(LAUNCHER), self.folder, folder]))
                # A link to the interpreter may not know of its packages.
                if "env" in text:
                    self.assertNotIn("does not name a Python", r.stderr)
                else:
                    self.assertEqual((r.returncode, r.stderr), (0, ""))
                    self.assertIn("arvados-cwl-runner", r.stdout)

    def test_passes_over_itself(self):
        links = os.path.join(self.folder, "links")
        os.mkdir(links)
        link = os.path.join(links, "arvados-cwl-runner")
        os.symlink(LAUNCHER, link)
        folder = self.genuine("#!%s\n" % sys.executable)
        r = self.launch(":".join([links, os.path.dirname(LAUNCHER), folder]), link)
        self.assertEqual((r.returncode, r.stderr), (0, ""))

    def test_nothing_to_run(self):
        r = self.launch(os.path.dirname(LAUNCHER))
        self.assertEqual(r.returncode, 1)
        self.assertEqual(
            r.stderr, "%s: there is no arvados-cwl-runner in the rest of PATH: install it, or put the folder of it after %s/bin\n" % (LAUNCHER, HOME)
        )

    def test_not_in_python(self):
        for text in ["\x7fELF", "#!/bin/sh\necho\n", "#!/nowhere/python\n", ""]:
            with self.subTest(text):
                folder = self.genuine(text)
                r = self.launch(folder)
                self.assertEqual((r.returncode, r.stderr), (1, "%s: the first line of %s/arvados-cwl-runner does not name a Python\n" % (LAUNCHER, folder)))
