# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: AGPL-3.0

cwlVersion: v1.2
class: CommandLineTool
$namespaces:
  arv: "http://arvados.org/cwl#"
label: docker build
doc: >-
  Builds an image from a Dockerfile and the files in Keep that it needs. The output
  collection of the step is the image; later requests and workflows find it by its
  names. The nodes need the crunch-run with builtin commands.
requirements:
  - class: DockerRequirement
    dockerPull: arvados/builtin
  - class: NetworkAccess
    networkAccess: true
  - class: WorkReuse
    enableReuse: false
  - class: ResourceRequirement
    coresMin: 2
    ramMin: 2048
hints:
  - class: arv:APIRequirement
baseCommand: [docker, build]
inputs:
  - id: tags
    type:
      type: array
      items: string
      inputBinding:
        prefix: --tag
    label: Names
    doc: name:tag for the image, one or more
    inputBinding:
      position: 1
  - id: context
    type: Directory?
    label: Context
    doc: Files for the build, and the Dockerfile if it is among them
    inputBinding:
      position: 9
  - id: dockerfile
    type: File?
    label: Dockerfile
    doc: The Dockerfile, if it is not that of the context
    inputBinding:
      prefix: --file
      position: 2
  - id: build_args
    type:
      - "null"
      - type: array
        items: string
        inputBinding:
          prefix: --build-arg
    label: Build arguments
    doc: NAME=value; everybody who can read the request can read them
    inputBinding:
      position: 3
  - id: target
    type: string?
    label: Target
    doc: Name of the stage to build, if it is not the last one
    inputBinding:
      prefix: --target
      position: 4
  - id: platform
    type: string?
    label: Platform
    doc: os/arch[/variant] of the image, if it is not that of the nodes
    inputBinding:
      prefix: --platform
      position: 5
outputs:
  - id: collection
    type: Directory
    outputBinding:
      glob: .
