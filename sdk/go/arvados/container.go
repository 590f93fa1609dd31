// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import "time"

// Container is one execution: what runs, where it stands, and what came of
// it. Dispatchers and crunch-run read it and move its State.
type Container struct {
	UUID                      string                 `json:"uuid"`
	Etag                      string                 `json:"etag"`
	CreatedAt                 time.Time              `json:"created_at"`
	ModifiedByUserUUID        string                 `json:"modified_by_user_uuid"`
	ModifiedAt                time.Time              `json:"modified_at"`
	Command                   []string               `json:"command"`
	ContainerImage            string                 `json:"container_image"` // portable data hash
	Cwd                       string                 `json:"cwd"`
	Environment               map[string]string      `json:"environment"`
	LockedByUUID              string                 `json:"locked_by_uuid"`
	LockCount                 int                    `json:"lock_count"`
	Mounts                    map[string]Mount       `json:"mounts"`
	Output                    string                 `json:"output"` // portable data hash
	OutputPath                string                 `json:"output_path"`
	OutputGlob                []string               `json:"output_glob"`
	Priority                  int64                  `json:"priority"`
	RuntimeConstraints        RuntimeConstraints     `json:"runtime_constraints"`
	State                     ContainerState         `json:"state"`
	SchedulingParameters      SchedulingParameters   `json:"scheduling_parameters"`
	ExitCode                  int                    `json:"exit_code"`
	RuntimeStatus             map[string]interface{} `json:"runtime_status"`
	StartedAt                 *time.Time             `json:"started_at"`
	FinishedAt                *time.Time             `json:"finished_at"`
	GatewayAddress            string                 `json:"gateway_address"`
	InteractiveSessionStarted bool                   `json:"interactive_session_started"`
	OutputStorageClasses      []string               `json:"output_storage_classes"`
	RuntimeUserUUID           string                 `json:"runtime_user_uuid"`
	RuntimeAuthScopes         []string               `json:"runtime_auth_scopes"`
	RuntimeToken              string                 `json:"runtime_token"`
	AuthUUID                  string                 `json:"auth_uuid"`
	Log                       string                 `json:"log"` // portable data hash
	Cost                      float64                `json:"cost"`
	SubrequestsCost           float64                `json:"subrequests_cost"`
}

// ContainerList is one page of containers.
type ContainerList struct {
	Items          []Container `json:"items"`
	ItemsAvailable int         `json:"items_available"`
	Offset         int         `json:"offset"`
	Limit          int         `json:"limit"`
}

// ContainerState is where a container stands.
type ContainerState string

// The states of a container: Queued -> Locked -> Running -> Complete or
// Cancelled. Locked goes back to Queued when the lock is given up, and
// Queued or Locked may go to Cancelled.
const (
	ContainerStateQueued    = ContainerState("Queued")
	ContainerStateLocked    = ContainerState("Locked")
	ContainerStateRunning   = ContainerState("Running")
	ContainerStateComplete  = ContainerState("Complete")
	ContainerStateCancelled = ContainerState("Cancelled")
)

// Mount is what a container finds at one path. Which fields count depends on
// Kind: "collection" (UUID or PortableDataHash, Path, Writable), "tmp"
// (Capacity in bytes, DeviceType), "text" and "json" (Content), "file" (Path),
// "keep", "stdin".
type Mount struct {
	Kind              string      `json:"kind"`
	Writable          bool        `json:"writable"`
	PortableDataHash  string      `json:"portable_data_hash"`
	UUID              string      `json:"uuid"`
	DeviceType        string      `json:"device_type"`
	Path              string      `json:"path"`
	Content           interface{} `json:"content"`
	ExcludeFromOutput bool        `json:"exclude_from_output"`
	Capacity          int64       `json:"capacity"`
}

// RuntimeConstraints are the resources that a container needs. Sizes are in
// bytes. API asks for a network and for the address and a token of the API
// server inside the container.
type RuntimeConstraints struct {
	API           bool                  `json:"API"`
	RAM           int64                 `json:"ram"`
	VCPUs         int                   `json:"vcpus"`
	KeepCacheRAM  int64                 `json:"keep_cache_ram"`
	KeepCacheDisk int64                 `json:"keep_cache_disk"`
	GPU           GPURuntimeConstraints `json:"gpu"` // Arvados 3.1 and newer
}

// GPURuntimeConstraints are the GPUs that a container needs. Arvados 3.0 has
// another field in its place, so programs for both must not name it.
type GPURuntimeConstraints struct {
	Stack          string   `json:"stack"` // "cuda" or "rocm"
	DriverVersion  string   `json:"driver_version"`
	HardwareTarget []string `json:"hardware_target"`
	DeviceCount    int      `json:"device_count"`
	VRAM           int64    `json:"vram"`
}

// SchedulingParameters tell a dispatcher where and how long a container may
// run. MaxRunTime is in seconds, 0 for no limit.
type SchedulingParameters struct {
	Partitions  []string `json:"partitions"`
	Preemptible bool     `json:"preemptible"`
	MaxRunTime  int      `json:"max_run_time"`
	Supervisor  bool     `json:"supervisor"`
}
