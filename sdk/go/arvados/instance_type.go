// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

// ByteSize is a number of bytes.
type ByteSize int64

// ByteSizeOrPercent is a number of bytes, or -1 to -100 for a percentage.
type ByteSizeOrPercent ByteSize

// InstanceType is the kind of machine that a container runs on. A dispatcher
// hands it to crunch-run as JSON in the environment variable InstanceType.
type InstanceType struct {
	Name            string `json:"-"`
	ProviderType    string
	VCPUs           int
	RAM             ByteSize
	Scratch         ByteSize `json:"-"`
	IncludedScratch ByteSize
	AddedScratch    ByteSize
	Price           float64 // per hour
	Preemptible     bool
}
