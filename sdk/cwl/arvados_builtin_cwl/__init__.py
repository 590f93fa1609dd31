# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: Apache-2.0

"""Images of CWL workflows by container requests, without docker.

An adapter for arvados-cwl-runner: it replaces the way in which that finds,
pulls and builds the images of workflow steps. It changes nothing on disk, and
decides nothing by itself that the program arv-docker decides.
"""

__version__ = "1.0.0"
