// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"sort"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// quota is what a block still needs, and what it has.
type quota struct {
	replicas int
	// How many replicas each storage class lacks.
	classes map[string]int
	// Replicas are counted by class, unless no class is asked for or a
	// service does not tell; then they count whatever their class.
	byClass bool
	stored  arvados.BlockWriteResponse
}

func newQuota(replicas int, classes []string) *quota {
	q := &quota{replicas: replicas, classes: map[string]int{}, byClass: len(classes) > 0}
	for _, class := range classes {
		q.classes[class] = replicas
	}
	return q
}

// open is how many replicas can be made now without making too many in any
// class; 0 when nothing is lacking.
func (q *quota) open() int {
	if !q.byClass {
		return q.replicas - q.stored.Replicas
	}
	least := 0
	for _, lacking := range q.classes {
		if least == 0 || lacking < least {
			least = lacking
		}
	}
	return least
}

// missing is the storage classes that a service is to be asked for.
func (q *quota) missing() []string {
	var classes []string
	for class := range q.classes {
		classes = append(classes, class)
	}
	sort.Strings(classes)
	return classes
}

func (q *quota) add(result uploaded) {
	q.stored.Locator = result.locator
	q.stored.Replicas += result.replicas
	if len(result.classes) == 0 {
		q.byClass = false
	}
	for class, n := range result.classes {
		if q.stored.StorageClasses == nil {
			q.stored.StorageClasses = map[string]int{}
		}
		q.stored.StorageClasses[class] += n
		if q.classes[class] > n {
			q.classes[class] -= n
		} else {
			delete(q.classes, class)
		}
	}
}
