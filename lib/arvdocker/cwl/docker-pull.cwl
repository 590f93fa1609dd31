# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: AGPL-3.0

cwlVersion: v1.2
class: CommandLineTool
$namespaces:
  arv: "http://arvados.org/cwl#"
label: docker pull
doc: >-
  Brings an image from a registry into Keep. The output collection of the step is the
  image; later requests and workflows find it by its name.
requirements:
  - class: DockerRequirement
    dockerPull: arvados/builtin
  - class: NetworkAccess
    networkAccess: true
  - class: WorkReuse
    enableReuse: false
  - class: ResourceRequirement
    coresMin: 1
    ramMin: 512
hints:
  - class: arv:APIRequirement
baseCommand: [docker, pull]
inputs:
  - id: image
    type: string
    label: Image
    doc: Name of the image as docker takes it, as in python:3.13-slim
    inputBinding:
      position: 2
  - id: platform
    type: string?
    label: Platform
    doc: os/arch[/variant] of the image, if it is not that of the nodes
    inputBinding:
      prefix: --platform
      position: 1
outputs:
  - id: collection
    type: Directory
    outputBinding:
      glob: .
