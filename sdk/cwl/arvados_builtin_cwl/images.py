# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

"""The images of one run of arvados-cwl-runner."""

import concurrent.futures
import contextlib
import logging
import os
import re
import threading
from typing import Any, Callable, Dict, Hashable, Iterator, List, Mapping, Optional

import arvados_cwl
from cwltool.errors import WorkflowException
from schema_salad.sourceline import SourceLine

from . import documents, recipe
from .client import ArvDocker, ClientError

logger = logging.getLogger("arvados.cwl-runner")

#: The image of workflow runners with this adapter in it, for a version; and the
#: usual one without.
RUNNER_IMAGE = "arvados/jobs-builtin:%s"
USUAL_RUNNER_IMAGE = "arvados/jobs:%s"

#: A token that is valid within a container only, which it names.
_CONTAINER_TOKEN = re.compile(r"^v2/[^/]+/[^/]+/([a-z0-9]{5}-dz642-[a-z0-9]{15})$")


class Images:
    """Finds the images of workflow steps, and has those made that are missing.

    Several threads may ask at once; what they ask for is done once.
    """

    def __init__(self, client: ArvDocker, genuine_get: Callable, genuine_runner: Callable):
        self._client = client
        self._genuine_get = genuine_get  # arv_docker_get_image
        self._genuine_runner = genuine_runner  # arvados_jobs_image
        self._documents = documents.Documents()
        self._mutex = threading.Lock()
        self._done: Dict[Hashable, concurrent.futures.Future] = {}
        self._local = threading.local()

    # What follows takes the places of functions of arvados_cwl, and has their
    # parameters.

    def get_image(self, api_client, dockerRequirement, pull_image, runtimeContext):
        """Replaces arvdocker.arv_docker_get_image. Returns the portable data
        hash of the image that the requirement means.
        """
        requirement = dockerRequirement
        has_recipe = "dockerFile" in requirement
        pin = recipe.field(requirement, recipe.PIN)
        if pin and not has_recipe:
            return pin
        key = next((k for k in ("dockerFile", "dockerImageId", "dockerPull") if k in requirement), None)
        with _errors_at(requirement, key):
            if has_recipe:
                return self._recipe_image(api_client, requirement, runtimeContext)
            if key is None:
                if "dockerLoad" in requirement or "dockerImport" in requirement:
                    raise ClientError("dockerLoad and dockerImport need a dockerImageId")
                raise ClientError("DockerRequirement names no image: write dockerPull or dockerFile")
            return self._named_image(api_client, requirement, pull_image, runtimeContext)

    def pin_image(self, api_client, dockerRequirement, pull_image, runtimeContext):
        """Replaces arv_docker_get_image in arvworkflow, whose caller writes the
        result into the stored document, and records beside it which recipe it
        is for.
        """
        pdh = self.get_image(api_client, dockerRequirement, pull_image, runtimeContext)
        key = context = None
        if "dockerFile" in dockerRequirement:
            with _errors_at(dockerRequirement, "dockerFile"):
                made_from = self._recipe_of(api_client, dockerRequirement)
                context = self._kept_context(made_from)
                key = made_from.key(context)
                if context and runtimeContext.copy_deps and runtimeContext.project_uuid:
                    self._copy(api_client, context[len("keep:") :].partition("/")[0], runtimeContext.project_uuid)
        recipe.set_field(dockerRequirement, recipe.PIN, pdh)
        recipe.set_field(dockerRequirement, recipe.RECIPE, key)
        recipe.set_field(dockerRequirement, recipe.CONTEXT, context)
        return pdh

    def update_refs(self, genuine: Callable) -> Callable:
        """Replaces arvworkflow.update_refs: notes the document meanwhile, which
        its parts that are not loaded do not name.
        """

        def update_refs(api, d, baseuri, *args):
            outer = getattr(self._local, "document", None)
            self._local.document = documents.place_of(baseuri) or outer
            try:
                return genuine(api, d, baseuri, *args)
            finally:
                self._local.document = outer

        return update_refs

    def runner_image(self, arvrunner, img, runtimeContext):
        """Replaces runner.arvados_jobs_image: where nothing else was asked for,
        the runner gets the image with this adapter in it.
        """
        version = arvados_cwl.__version__
        if img == USUAL_RUNNER_IMAGE % version:
            better = RUNNER_IMAGE % version
            try:
                pdh = self._find(arvrunner.api, better, runtimeContext)
            except ClientError as e:
                raise WorkflowException(str(e))
            if pdh:
                return pdh
            self._once(
                "no " + better,
                lambda: logger.info("The workflow runner cannot build images by itself: Arvados has no %s, which arv-docker setup makes", better),
            )
        return self._genuine_runner(arvrunner, img, runtimeContext)

    def _named_image(self, api: Any, requirement: Mapping, may_pull: bool, context: Any) -> str:
        """The image that a requirement without a recipe names."""
        pull = requirement.get("dockerPull")
        name = requirement.get("dockerImageId") or pull

        def fetch() -> Optional[str]:
            if pull is None or not may_pull:
                return None
            pdh = self._client.pull(pull, self._project(api, context))
            if name != pull:
                self._client.tag(pdh, name)
            return pdh

        def find_or_fetch() -> Optional[str]:
            return self._find(api, name, context) or fetch()

        pdh = self._once((name, pull, may_pull, _destination(context)), find_or_fetch)
        if pdh:
            return pdh
        if "dockerLoad" in requirement or "dockerImport" in requirement:
            return self._genuine_get(api, requirement, may_pull, context)
        hint = "" if pull else ": add dockerPull, or bring it there with arv-docker push or load"
        raise ClientError("Docker image %r is not in Arvados%s" % (name, hint))

    def _recipe_image(self, api: Any, requirement: Mapping, context: Any) -> str:
        """The image of a requirement with a recipe: the pinned one if the pin is
        for this recipe, else one that was made from it, else a new one.
        """
        made_from = self._recipe_of(api, requirement)
        pin = recipe.field(requirement, recipe.PIN)
        pinned = recipe.field(requirement, recipe.RECIPE)
        if pin and pinned and pinned == made_from.key(self._kept_context(made_from)):
            return pin
        names = [requirement[k] for k in ("dockerImageId", "dockerPull") if k in requirement][:1]

        def find_or_build() -> str:
            key_name = recipe.KEY_NAME % made_from.key(self._kept_context(made_from))
            pdh = self._find(api, key_name, context, own=True)
            if pdh is None:
                if pin:
                    logger.info("The pinned image %s is of an earlier recipe", pin)
                logger.info("Building the image %s", names[0] if names else key_name)
                if made_from.lacks_files():
                    logger.warning(
                        "The Dockerfile takes files from its context, but none is known: write dockerFile: {$include: Dockerfile}, or %s",
                        recipe.CONTEXT,
                    )
                with made_from.words() as words:
                    pdh = self._client.build(words, made_from.text, names + [key_name], self._project(api, context))
            return pdh

        return self._once((made_from, _destination(context)), find_or_build)

    def _recipe_of(self, api: Any, requirement: Mapping) -> recipe.Recipe:
        return recipe.recipe_of(self._documents, api, requirement, getattr(self._local, "document", None))

    def _kept_context(self, made_from: recipe.Recipe) -> Optional[str]:
        return self._once(("context", made_from), lambda: made_from.kept_context(self._client))

    def _find(self, api: Any, name: str, context: Any, own: bool = False) -> Optional[str]:
        """The portable data hash of the image of a name, None if Arvados has
        none. With own, images of other owners than the user and the project do
        not count: anybody can give an image a name.
        """
        found = self._client.inspect(name)
        if found is None:
            return None
        found = found["Arvados"]
        project = self._project(api, context)
        if own and found["Owner"] not in (project, self._user(api)):
            return None
        if context.copy_deps and context.project_uuid and found["Owner"] != context.project_uuid:
            self._copy(api, found["PortableDataHash"], context.project_uuid)
        return found["PortableDataHash"]

    def _copy(self, api: Any, pdh: str, project: str) -> None:
        """Puts a copy of a collection into a project, unless the project has
        one.
        """
        filters = [["portable_data_hash", "=", pdh], ["owner_uuid", "=", project]]
        if api.collections().list(filters=filters, select=["uuid"], limit=1).execute()["items"]:
            return
        original = api.collections().list(filters=filters[:1], limit=1).execute()["items"][0]
        original = api.collections().get(uuid=original["uuid"]).execute()
        copy = {key: original[key] for key in ("name", "manifest_text", "properties")}
        copy["owner_uuid"] = project
        made = api.collections().create(body={"collection": copy}, ensure_unique_name=True).execute()
        logger.info("Copied collection %s to %s", original["uuid"], made["uuid"])

    def _user(self, api: Any) -> str:
        return self._once("user", lambda: api.users().current().execute()["uuid"])

    def _project(self, api: Any, context: Any) -> Optional[str]:
        """The project that new images go to: the one that was asked for, else
        in a container that of its request, else ARVADOS_PROJECT_UUID; None is
        the user's home.
        """
        if context.project_uuid:  # where a user is updating a workflow at home, that is the user
            return context.project_uuid if context.project_uuid != self._user(api) else None
        inside = _CONTAINER_TOKEN.match(os.environ.get("ARVADOS_API_TOKEN", ""))
        if not inside:
            return os.environ.get("ARVADOS_PROJECT_UUID") or None

        def owner() -> Optional[str]:
            filters = [["container_uuid", "=", inside.group(1)]]
            requests = api.container_requests().list(filters=filters, select=["owner_uuid"], order="created_at", limit=1).execute()["items"]
            return requests[0]["owner_uuid"] if requests and requests[0]["owner_uuid"][5:12] == "-j7d0g-" else None

        return self._once("project", owner)

    def _once(self, what: Hashable, do: Callable[[], Any]) -> Any:
        """The result of do, which runs once for what; whoever asks meanwhile
        waits for it. What has failed is tried again by whoever asks later.
        """
        with self._mutex:
            future = self._done.get(what)
            mine = future is None
            if mine:
                future = self._done[what] = concurrent.futures.Future()
        if mine:
            try:
                future.set_result(do())
            except BaseException as e:
                with self._mutex:
                    del self._done[what]
                future.set_exception(e)
        return future.result()


def _destination(context: Any) -> Any:
    """What of the context an image depends on."""
    return context.project_uuid, bool(context.copy_deps)


@contextlib.contextmanager
def _errors_at(requirement: Mapping, key: Optional[str]) -> Iterator[None]:
    """Names file and line in errors, as the function that is replaced does."""
    with SourceLine(requirement, key, WorkflowException, logger.isEnabledFor(logging.DEBUG)):
        yield
