# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

import os
import threading
import types
from unittest import mock

import arvados_cwl
from cwltool.errors import WorkflowException

from arvados_builtin_cwl import recipe
from arvados_builtin_cwl.client import ArvDocker
from arvados_builtin_cwl.images import Images

from . import scripted
from .scripted import MISSING, PROJECT, STRANGER, USER, ScriptedAPI, context, image, made, pdh, run_context

TOOL = """cwlVersion: v1.2
class: CommandLineTool
$namespaces: {arv: "http://arvados.org/cwl#"}
requirements:
  DockerRequirement:
%s
inputs: []
outputs: []
baseCommand: x
"""


def tool(*lines):
    return TOOL % "\n".join("    " + line for line in lines)


class Test(scripted.ScriptedTest):
    def setUp(self):
        super().setUp()
        self.api = ScriptedAPI()
        self.genuine = mock.Mock(return_value="from the genuine function")
        self.new_run()

    def new_run(self):
        self.images = Images(ArvDocker(self.program), self.genuine, self.genuine)

    def get(self, requirement, may_pull=True, **values):
        return self.images.get_image(self.api, requirement, may_pull, run_context(**values))


class Named(Test):
    def test_found(self):
        self.script(inspect=image(1))
        for name in ["debian:12", "localhost:5000/a/b", "reg:5000/a:1", "a@sha256:" + "0" * 64, "sha256:" + "1" * 64, pdh(3)]:
            for key in ["dockerPull", "dockerImageId"]:
                with self.subTest(name):
                    self.new_run()
                    self.assertEqual(self.get({key: name}), pdh(1))
                    self.assertEqual(self.commands(), ["inspect -- " + name])

    def test_pulled(self):
        self.script(pull=made(2))
        self.assertEqual(self.get({"dockerPull": "localhost:5000/a"}), pdh(2))
        self.assertEqual(self.commands(), ["inspect -- localhost:5000/a", "pull --json -- localhost:5000/a"])

    def test_project(self):
        self.script(pull=made(2))
        self.get({"dockerPull": "a"}, project_uuid=PROJECT)
        self.assertEqual(self.commands()[1], "pull --json --project %s -- a" % PROJECT)
        self.get({"dockerPull": "a"}, project_uuid=USER)
        self.assertEqual(self.commands()[1], "pull --json -- a")
        self.new_run()
        with mock.patch.dict(os.environ, {"ARVADOS_PROJECT_UUID": PROJECT}):
            self.get({"dockerPull": "a"})
        self.assertEqual(self.commands()[1], "pull --json --project %s -- a" % PROJECT)

    def test_project_in_a_container(self):
        container = "zzzzz-dz642-000000000000000"
        self.script(pull=made(2))
        for owner, want in [(PROJECT, "--project %s -- " % PROJECT), (USER, "-- "), (None, "-- ")]:
            with self.subTest(owner):
                self.new_run()
                self.api = ScriptedAPI(requests=[{"container_uuid": container, "owner_uuid": owner}] if owner else [])
                with mock.patch.dict(os.environ, {"ARVADOS_API_TOKEN": "v2/zzzzz-gj3su-000000000000000/secret/" + container}):
                    self.get({"dockerPull": "a"})
                self.assertEqual(self.commands()[1], "pull --json %sa" % want)

    def test_name_of_its_own(self):
        self.script(pull=made(2), tag={})
        self.assertEqual(self.get({"dockerPull": "a", "dockerImageId": "b:1"}), pdh(2))
        self.assertEqual(self.commands(), ["inspect -- b:1", "pull --json -- a", "tag -- %s b:1" % pdh(2)])

    def test_not_pulled(self):
        self.script()
        for requirement, may_pull, want in [
            ({"dockerPull": "a"}, False, "Docker image 'a' is not in Arvados"),
            ({"dockerImageId": "a"}, True, "Docker image 'a' is not in Arvados: add dockerPull, or bring it there with arv-docker push or load"),
            ({}, True, "DockerRequirement names no image: write dockerPull or dockerFile"),
            ({"dockerLoad": "a.tar"}, True, "dockerLoad and dockerImport need a dockerImageId"),
        ]:
            with self.subTest(requirement):
                with self.assertRaises(WorkflowException) as raised:
                    self.get(requirement, may_pull)
                self.assertEqual(str(raised.exception), want)

    def test_loaded_as_ever(self):
        self.script()
        requirement = {"dockerLoad": "a.tar", "dockerImageId": "a"}
        self.assertEqual(self.get(requirement), "from the genuine function")
        self.assertEqual(self.genuine.call_args.args[1], requirement)

    def test_pin(self):
        self.script()
        self.assertEqual(self.get({recipe.PIN: pdh(5), "dockerPull": "a"}), pdh(5))
        self.assertEqual(self.get({"arv:dockerCollectionPDH": pdh(6)}), pdh(6))
        self.assertEqual(self.commands(), [])

    def test_errors_name_the_line(self):
        self.write(a_cwl=tool("dockerPull: a:1"))
        self.script(pull={"code": 1, "err": "some\narv-docker: the registry says no\n"})
        with self.assertRaisesRegex(
            WorkflowException, r"(?s)^\S*a\.cwl:6:5: \S+ pull failed with exit code 1\n\S*a\.cwl:6:5: arv-docker: the registry says no$"
        ):
            self.get(self.requirement("a.cwl"))

    def test_trouble_is_not_absence(self):
        self.script(inspect={"code": 1, "out": "[]", "err": "arv-docker: API server: connection refused\n"})
        with self.assertRaisesRegex(WorkflowException, "(?s)inspect failed with exit code 1.*connection refused"):
            self.get({"dockerPull": "a"})
        self.assertEqual(self.commands(), ["inspect -- a"])
        # Later it goes well.
        self.script(inspect=image(1))
        self.assertEqual(self.get({"dockerPull": "a"}), pdh(1))

    def test_no_program(self):
        self.images = Images(ArvDocker("/nowhere/arv-docker"), self.genuine, self.genuine)
        with self.assertRaisesRegex(WorkflowException, "cannot run '/nowhere/arv-docker', .*: No such file or directory; put it into PATH, or set ARV_DOCKER"):
            self.get({"dockerPull": "a"})

    def test_no_json(self):
        self.script(pull={"out": "usage: something else"})
        with self.assertRaisesRegex(WorkflowException, "pull printed 'usage: something else', which is not JSON"):
            self.get({"dockerPull": "a"})

    def test_asked_for_at_once(self):
        self.script(pull=dict(made(2), sleep=0.5))
        got = []
        threads = [threading.Thread(target=lambda: got.append(self.get({"dockerPull": "a"}))) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(got, [pdh(2)] * 8)
        self.assertEqual(self.get({"dockerPull": "a"}), pdh(2))
        self.assertEqual(self.commands(), ["inspect -- a", "pull --json -- a"])


class Copies(Test):
    def setUp(self):
        super().setUp()
        self.script(inspect=image(1))
        self.original = {
            "uuid": "zzzzz-4zz18-000000000000001", "owner_uuid": USER, "name": "n", "manifest_text": "m",
            "properties": {"docker-image-repo-tag": "a:1"}, "portable_data_hash": pdh(1),
        }

    def test_into_the_project(self):
        self.api = ScriptedAPI([self.original])
        self.get({"dockerPull": "a"}, project_uuid=PROJECT, copy_deps=True)
        self.get({"dockerPull": "a"}, project_uuid=PROJECT, copy_deps=True)
        self.assertEqual(
            self.api.created,
            [{"name": "n", "manifest_text": "m", "properties": {"docker-image-repo-tag": "a:1"}, "owner_uuid": PROJECT, "uuid": mock.ANY}],
        )

    def test_not_asked_for_or_there_already(self):
        for collections, values in [
            ([self.original], {"project_uuid": PROJECT}),
            ([self.original], {"copy_deps": True}),
            ([self.original, dict(self.original, owner_uuid=PROJECT)], {"project_uuid": PROJECT, "copy_deps": True}),
        ]:
            self.new_run()
            self.api = ScriptedAPI(collections)
            self.get({"dockerPull": "a"}, **values)
            self.assertEqual(self.api.created, [])


class Recipes(Test):
    def key(self, text, kept=""):
        return recipe.Recipe(text, None, None, "").key(kept)

    def test_text_alone(self):
        self.write(a_cwl=tool("dockerFile: |", "  FROM scratch", "  ENV A=1"))
        self.script(build=made(2))
        text = "FROM scratch\nENV A=1\n"
        self.assertEqual(self.get(self.requirement("a.cwl")), pdh(2))
        inspected, built = self.calls()
        name = "arvados/recipe:" + self.key(text)
        self.assertEqual(inspected["args"], ["inspect", "--", name])
        self.assertEqual(built["args"], ["build", "--json", "--tag", name, "--file", "TMP/Dockerfile", "TMP/empty"])
        self.assertEqual((built["dockerfile"], built["context"]), (text, []))

    def test_names(self):
        self.script(build=made(2))
        for requirement, want in [
            ({"dockerImageId": "a:1"}, ["a:1"]),
            ({"dockerPull": "b:1"}, ["b:1"]),
            ({"dockerImageId": "a:1", "dockerPull": "b:1"}, ["a:1"]),
        ]:
            self.new_run()
            self.get(dict(requirement, dockerFile="FROM a"))
            args = self.calls()[1]["args"]
            self.assertEqual([args[i + 1] for i, a in enumerate(args) if a == "--tag"], want + ["arvados/recipe:" + self.key("FROM a")])

    def test_unchanged(self):
        self.script(inspect=image(1))
        self.assertEqual(self.get({"dockerFile": "FROM a"}), pdh(1))
        self.assertEqual(self.commands(), ["inspect -- arvados/recipe:" + self.key("FROM a")])

    def test_of_others_does_not_count(self):
        self.script(inspect=image(1, STRANGER), build=made(2))
        self.assertEqual(self.get({"dockerFile": "FROM a"}), pdh(2))
        # The project's does.
        self.new_run()
        self.script(inspect=image(1, PROJECT))
        self.assertEqual(self.get({"dockerFile": "FROM a"}, project_uuid=PROJECT), pdh(1))

    def test_files_beside_the_dockerfile(self):
        self.write(
            sub__a_cwl=tool("dockerFile: {$include: ../docker/Dockerfile}"),
            docker__Dockerfile="FROM a\nCOPY b c/ /d/\n", docker__b="b", docker__c__c="c", docker___dockerignore="*.pyc\n",
        )
        self.script(**{"build --dry-run": context(7), "build": made(2)})
        self.assertEqual(self.get(self.requirement("sub/a.cwl")), pdh(2))
        dry, inspected, built = self.calls()
        folder = os.path.join(self.folder, "docker")
        self.assertEqual(dry["args"], ["build", "--dry-run", "--file", "TMP/Dockerfile", folder])
        name = "arvados/recipe:" + self.key("FROM a\nCOPY b c/ /d/\n", "keep:" + pdh(7))
        self.assertEqual(inspected["args"], ["inspect", "--", name])
        self.assertEqual(built["args"], ["build", "--json", "--tag", name, "--file", "TMP/Dockerfile", folder])
        self.assertEqual(built["ignore"], "*\n!b\n!c\n*.pyc\n")
        # A changed file makes another recipe.
        self.new_run()
        self.script(**{"build --dry-run": context(8)})
        self.get(self.requirement("sub/a.cwl"))
        self.assertEqual(self.calls()[1]["args"][2], "arvados/recipe:" + self.key("FROM a\nCOPY b c/ /d/\n", "keep:" + pdh(8)))

    def test_own_ignore_file_of_a_dockerfile(self):
        self.write(a_cwl=tool("dockerFile: {$include: My}"), My="FROM a\nCOPY . /b\n", My_dockerignore="mine", _dockerignore="general")
        self.script(**{"build --dry-run": context(7), "build": made(2)})
        self.get(self.requirement("a.cwl"))
        self.assertEqual(self.calls()[2]["ignore"], "mine")

    def test_no_folder_known(self):
        self.write(a_cwl=tool("dockerFile: |", "  FROM a", "  COPY b /c"))
        self.script(build=made(2))
        with self.assertLogs("arvados.cwl-runner", "WARNING") as logs:
            self.get(self.requirement("a.cwl"))
        self.assertIn("none is known", logs.output[0])
        self.assertEqual(self.calls()[1]["context"], [])

    def test_folder_by_key(self):
        for written in ["docker", "./docker/", os.path.join(self.folder, "docker")]:
            self.new_run()
            self.write(a_cwl=tool("dockerFile: |", "  FROM a", "  COPY b /c", "arv:dockerContext: " + written), docker__b="b", docker__c="c")
            self.script(**{"build --dry-run": context(7), "build": made(2)})
            self.get(self.requirement("a.cwl"))
            built = self.calls()[2]
            self.assertEqual((built["context"], built["ignore"]), (["b", "c"], ""))

    def test_folder_in_keep(self):
        self.script(build=made(2))
        for place in ["keep:" + pdh(4), "keep:%s/sub" % pdh(4)]:
            self.new_run()
            self.get({"dockerFile": "FROM a\nCOPY b /c\n", recipe.CONTEXT: place})
            inspected, built = self.calls()
            self.assertEqual(inspected["args"][2], "arvados/recipe:" + self.key("FROM a\nCOPY b /c\n", place))
            self.assertEqual((built["args"][-3:], built["stdin"]), (["--file", "-", place], "FROM a\nCOPY b /c\n"))

    def test_no_such_folder(self):
        self.write(a_cwl=tool("dockerFile: FROM a", "arv:dockerContext: nowhere"))
        self.script()
        with self.assertRaisesRegex(WorkflowException, r"a\.cwl:6:5: http://arvados.org/cwl#dockerContext: there is no folder '.*/nowhere'"):
            self.get(self.requirement("a.cwl"))

    def test_pin_counts_for_its_recipe_only(self):
        self.script(inspect=MISSING, build=made(2))
        for recorded, want in [(self.key("FROM a"), pdh(9)), (self.key("FROM b"), pdh(2)), (None, pdh(2))]:
            self.new_run()
            requirement = {"dockerFile": "FROM a", recipe.PIN: pdh(9)}
            if recorded:
                requirement[recipe.RECIPE] = recorded
            self.assertEqual(self.get(requirement), want)
        # One key says both: text and files.
        self.new_run()
        requirement = {"dockerFile": "FROM a\nCOPY b c", recipe.PIN: pdh(9), recipe.CONTEXT: "keep:" + pdh(4)}
        requirement[recipe.RECIPE] = self.key("FROM a\nCOPY b c", "keep:" + pdh(4))
        self.assertEqual(self.get(requirement), pdh(9))
        requirement[recipe.CONTEXT] = "keep:" + pdh(5)
        self.assertEqual(self.get(requirement), pdh(2))

    def test_several_tools_in_one_document(self):
        self.write(
            a_cwl="cwlVersion: v1.0\n$graph:\n" + "".join(
                "- class: CommandLineTool\n  id: %s\n  hints:\n  - class: DockerRequirement\n    dockerFile: {$include: %s/Dockerfile}\n"
                "  inputs: []\n  outputs: []\n" % (name, name) for name in "xy"
            ),
            x__Dockerfile="FROM a\nCOPY f /\n", y__Dockerfile="FROM a\nCOPY f /\n", x__f="x", y__f="y",
        )
        self.script(**{"build --dry-run": context(7), "build": made(2)})
        for name in "xy":
            self.get(self.requirement("a.cwl#" + name))
            self.assertEqual(self.calls()[0]["args"][-1], os.path.join(self.folder, name))

    def test_inherited_and_imported(self):
        self.write(
            a_cwl="cwlVersion: v1.2\nclass: Workflow\nrequirements: [{$import: sub/docker.yml}]\ninputs: []\noutputs: []\n"
            "steps: {s: {run: deep/er/t.cwl, in: [], out: []}}\n",
            sub__docker_yml="class: DockerRequirement\ndockerFile: {$include: Dockerfile}\n",
            sub__Dockerfile="FROM a\nCOPY f /\n", sub__f="f",
            deep__er__t_cwl="cwlVersion: v1.0\nclass: CommandLineTool\ninputs: []\noutputs: []\nbaseCommand: x\n",
        )
        self.script(**{"build --dry-run": context(7), "build": made(2)})
        self.get(self.load("a.cwl").steps[0].embedded_tool.get_requirement("DockerRequirement")[0])
        self.assertEqual(self.calls()[0]["args"][-1], os.path.join(self.folder, "sub"))

    def test_line_ends(self):
        self.write(a_cwl=tool("dockerFile: {$include: Dockerfile}"), Dockerfile="FROM a\r\nENV A=1\r\n")
        self.script(build=made(2))
        loaded = self.requirement("a.cwl")
        self.get(loaded)
        self.assertEqual(self.calls()[0]["args"][2], "arvados/recipe:" + self.key("FROM a\nENV A=1\n"))
        stored = {"dockerFile": {"$include": "Dockerfile"}}
        self.refs(stored, "a.cwl")
        self.assertEqual(stored[recipe.RECIPE], self.key("FROM a\nENV A=1\n"))

    def refs(self, stored, name, **values):
        """Has a part of a document that is not loaded pinned, as registering does."""

        def genuine(api, d, baseuri, *args):
            d["pin"] = self.images.pin_image(api, d, False, run_context(**values))

        self.images.update_refs(genuine)(self.api, stored, "file://%s#main" % os.path.join(self.folder, name))
        self.assertEqual(stored.pop("pin"), stored[recipe.PIN])

    def test_pinning(self):
        self.write(docker__Dockerfile="FROM a\nCOPY f /\n", docker__f="f", _dockerignore="")
        self.script(**{"build --dry-run": context(7), "build": made(2), "inspect -- b": image(3)})
        key = self.key("FROM a\nCOPY f /\n", "keep:" + pdh(7))
        for stored, want in [
            ({"dockerPull": "b"}, {"dockerPull": "b", recipe.PIN: pdh(3)}),
            ({"dockerPull": "b", "arv:dockerCollectionPDH": pdh(8)}, {"dockerPull": "b", recipe.PIN: pdh(8)}),
            (
                {"dockerFile": {"$include": "docker/Dockerfile"}, "arv:dockerCollectionPDH": pdh(8)},
                {"dockerFile": {"$include": "docker/Dockerfile"}, recipe.PIN: pdh(2), recipe.RECIPE: key, recipe.CONTEXT: "keep:" + pdh(7)},
            ),
            (
                {"dockerFile": "FROM a\nCOPY f /\n", "a:dockerContext": "docker", "a:dockerRecipe": "old"},
                {"dockerFile": "FROM a\nCOPY f /\n", recipe.PIN: pdh(2), recipe.RECIPE: key, recipe.CONTEXT: "keep:" + pdh(7)},
            ),
            ({"dockerFile": "FROM a"}, {"dockerFile": "FROM a", recipe.PIN: pdh(2), recipe.RECIPE: self.key("FROM a")}),
        ]:
            with self.subTest(stored):
                self.new_run()
                self.refs(stored, "a.cwl")
                self.assertEqual(stored, want)
                # The runner believes it.
                self.new_run()
                self.calls()
                if isinstance(stored.get("dockerFile"), dict):
                    stored["dockerFile"] = "FROM a\nCOPY f /\n"
                self.assertEqual(self.get(stored), want[recipe.PIN])
                self.assertEqual(self.calls(), [])

    def test_pinning_copies_the_context(self):
        self.write(docker__Dockerfile="FROM a\nCOPY f /\n", docker__f="f")
        self.script(**{"build --dry-run": context(7), "build": made(2)})
        kept = {"uuid": "zzzzz-4zz18-000000000000007", "owner_uuid": USER, "name": "c", "manifest_text": "", "properties": {}, "portable_data_hash": pdh(7)}
        self.api = ScriptedAPI([kept])
        self.refs({"dockerFile": {"$include": "docker/Dockerfile"}}, "a.cwl", project_uuid=PROJECT, copy_deps=True)
        self.assertEqual([c["owner_uuid"] for c in self.api.created], [PROJECT])


class RunnerImage(Test):
    def get_runner(self, name):
        return self.images.runner_image(types.SimpleNamespace(api=self.api), name, run_context())

    def test_with_adapter_where_there_is_one(self):
        version = arvados_cwl.__version__
        self.script(inspect=image(1))
        self.assertEqual(self.get_runner("arvados/jobs:" + version), pdh(1))
        self.assertEqual(self.commands(), ["inspect -- arvados/jobs-builtin:" + version])
        self.assertEqual(self.get_runner("mine:1"), "from the genuine function")
        self.script(inspect=MISSING)
        with self.assertLogs("arvados.cwl-runner", "INFO") as logs:
            self.assertEqual(self.get_runner("arvados/jobs:" + version), "from the genuine function")
        self.assertIn("arv-docker setup", logs.output[0])
