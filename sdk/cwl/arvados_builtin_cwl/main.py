# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

"""The command: arvados-cwl-runner with some of its functions replaced."""

import importlib
import inspect
import sys
from typing import Callable, List, Optional

#: The functions that are replaced, with the parameters that they have from
#: arvados-cwl-runner 3.0.0 on.
REPLACED = {
    ("arvados_cwl.arvdocker", "arv_docker_get_image"): ["api_client", "dockerRequirement", "pull_image", "runtimeContext"],
    ("arvados_cwl.runner", "arvados_jobs_image"): ["arvrunner", "img", "runtimeContext"],
    ("arvados_cwl.arvworkflow", "update_refs"): [
        "api", "d", "baseuri", "urlexpander", "merged_map", "jobmapper", "runtimeContext", "prefix", "replacePrefix",
    ],
}

#: Who calls the first of them by a name of its own.
CALLERS = ["arvados_cwl.arvcontainer", "arvados_cwl.arvworkflow"]


class Unfit(Exception):
    """The installed arvados-cwl-runner is not one that this adapter fits."""


def main(args: Optional[List[str]] = None) -> int:
    """Runs arvados-cwl-runner. Returns its exit code."""
    try:
        replace()
    except Unfit as e:
        print("arvados-cwl-runner: %s" % e, file=sys.stderr)
        return 1
    import arvados_cwl

    return arvados_cwl.main(sys.argv[1:] if args is None else args)


def replace() -> None:
    """Replaces the functions in the loaded modules. Raises Unfit, and leaves all
    as it is, if one of them is not there or has other parameters.
    """
    genuine = {name: _function(module, name, parameters) for (module, name), parameters in REPLACED.items()}
    for module in CALLERS:
        if getattr(_module(module), "arv_docker_get_image", None) is not genuine["arv_docker_get_image"]:
            raise _unfit("%s does not use arv_docker_get_image" % module)

    from .client import ArvDocker
    from .images import Images

    images = Images(ArvDocker(), genuine["arv_docker_get_image"], genuine["arvados_jobs_image"])
    _put(genuine["arv_docker_get_image"], images.get_image)
    _put(genuine["arvados_jobs_image"], images.runner_image)
    _put(genuine["update_refs"], images.update_refs(genuine["update_refs"]))
    _module("arvados_cwl.arvworkflow").arv_docker_get_image = images.pin_image


def _module(name: str):
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise _unfit("%s cannot be loaded: %s" % (name, e))


def _function(module: str, name: str, parameters: List[str]) -> Callable:
    function = getattr(_module(module), name, None)
    if function is None:
        raise _unfit("it has no %s.%s" % (module, name))
    found = list(inspect.signature(function).parameters)
    if found != parameters:
        raise _unfit("%s.%s has the parameters %s instead of %s" % (module, name, ", ".join(found), ", ".join(parameters)))
    return function


def _put(genuine: Callable, replacement: Callable) -> None:
    """Puts the replacement wherever a module of arvados-cwl-runner has the
    genuine function.
    """
    for module in [m for n, m in sys.modules.items() if n.split(".")[0] == "arvados_cwl" and m]:
        for name in [n for n, value in vars(module).items() if value is genuine]:
            setattr(module, name, replacement)


def _unfit(why: str) -> Unfit:
    try:
        from arvados_cwl import __version__ as version
    except ImportError:
        version = "(none)"
    return Unfit(
        "the adapter for images does not fit arvados-cwl-runner %s: %s. It fits 3.0.0 and later; install a newer adapter" % (version, why)
    )
