// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"pgregory.net/rapid"
)

// What a service may do with one block that it is sent: take it, be busy, be
// full, refuse it, or lose the connection.
var writeStates = []int{0, 503, 507, 403, lost}

// Whatever services do, a write succeeds exactly when as many of them as there
// are replicas wanted take the block within the attempts; none gets it after it
// has taken or finally refused it; and none gets it more often than that.
func TestAnyWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		attempts := rapid.IntRange(1, 4).Draw(t, "attempts")
		replicas := rapid.IntRange(1, 4).Draw(t, "replicas")
		var scripts [][]reply
		willing := 0
		for range rapid.IntRange(1, 5).Draw(t, "services") {
			states := rapid.SliceOfN(rapid.SampledFrom(writeStates), 1, 5).Draw(t, "states")
			scripts = append(scripts, replies(states))
			if takesWithin(states, attempts) {
				willing++
			}
		}
		cl := newCluster(fooHash, "disk", scripts...)
		resp, err := cl.BlockWrite(context.Background(),
			arvados.BlockWriteOptions{Data: []byte("foo"), Replicas: replicas, Attempts: attempts})
		cl.close()
		if (err == nil) != (willing >= replicas) {
			t.Fatalf("%d of %d services would have taken %d replicas: %v", willing, len(scripts), replicas, err)
		}
		if want := min(willing, replicas); resp.Replicas != want {
			t.Fatalf("%d replicas, not %d", resp.Replicas, want)
		}
		if err != nil && !errors.As(err, new(InsufficientReplicasError)) {
			t.Fatalf("unexpected kind of error: %v", err)
		}
		for i, n := range cl.counts() {
			if n > attempts {
				t.Fatalf("service %d got %d requests in %d attempts", i, n, attempts)
			}
			for _, earlier := range scripts[i][:min(max(n-1, 0), len(scripts[i]))] {
				if earlier.status != 503 && earlier.status != lost {
					t.Fatalf("service %d was asked again after %d", i, earlier.status)
				}
			}
		}
	})
}

func replies(states []int) []reply {
	var script []reply
	for _, status := range states {
		script = append(script, reply{status: status})
	}
	return script
}

// takesWithin tells whether a service with these states, the last of which
// stays, takes a block that is offered so many times.
func takesWithin(states []int, attempts int) bool {
	for i := range attempts {
		switch states[min(i, len(states)-1)] {
		case 0:
			return true
		case 403, 507:
			return false
		}
	}
	return false
}

// Whatever services do, a read without an error has brought the block; what it
// says it has written it has written; and no byte follows a failure.
func TestAnyRead(t *testing.T) {
	data := long[:2*pieceSize]
	damaged := bytes.Clone(data)
	damaged[len(damaged)/2]++
	locator := locatorOf(data)
	kinds := []reply{
		{data: data}, {data: data, chunked: true}, {data: data, cut: 1}, {data: data, cut: pieceSize + 1},
		{data: damaged}, {data: damaged, cut: pieceSize + 100}, {data: data[:pieceSize], chunked: true},
		{data: append(bytes.Clone(data), 'x'), chunked: true}, {data: data[1:]},
		{status: 404}, {status: 503}, {status: 401}, {status: lost},
	}
	rapid.Check(t, func(t *rapid.T) {
		var scripts [][]reply
		for range rapid.IntRange(1, 3).Draw(t, "services") {
			var script []reply
			for _, kind := range rapid.SliceOfN(rapid.IntRange(0, len(kinds)-1), 1, 3).Draw(t, "kinds") {
				script = append(script, kinds[kind])
			}
			scripts = append(scripts, script)
		}
		cl := newCluster(locator[:32], "disk", scripts...)
		var out bytes.Buffer
		n, err := cl.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: locator, WriteTo: &out})
		p := make([]byte, 10)
		at, partErr := cl.ReadAt(locator, p, len(data)/2-5)
		cl.close()
		if n != out.Len() {
			t.Fatalf("%d bytes reported, %d written", n, out.Len())
		}
		if err == nil && !bytes.Equal(out.Bytes(), data) {
			t.Fatal("wrong data without an error")
		}
		if n > len(data) {
			t.Fatalf("%d bytes of a block of %d", n, len(data))
		}
		if partErr == nil && !bytes.Equal(p, data[len(data)/2-5:len(data)/2+5]) {
			t.Fatal("wrong part without an error")
		}
		if partErr != nil && at != 0 {
			t.Fatalf("%d bytes of a part that could not be read", at)
		}
	})
}

// The header names classes in any order and number; what they add up to is
// what is stored, and nothing is asked of a class that has enough.
func TestAnyQuota(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4, rapid.ID).Draw(t, "classes")
		replicas := rapid.IntRange(1, 4).Draw(t, "replicas")
		q := newQuota(replicas, names)
		sum := map[string]int{}
		total, told := 0, len(names) > 0
		for range rapid.IntRange(0, 8).Draw(t, "answers") {
			confirmed := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}), rapid.IntRange(1, 3), 0, 3).Draw(t, "confirmed")
			n := rapid.IntRange(0, 3).Draw(t, "stored")
			q.add(uploaded{replicas: n, classes: confirmed})
			total += n
			for name, count := range confirmed {
				sum[name] += count
			}
			told = told && len(confirmed) > 0
		}
		lacking := 0
		for _, name := range names {
			if sum[name] < replicas {
				lacking++
			}
		}
		if len(q.missing()) != lacking {
			t.Fatalf("%v lack of %v after %v", q.missing(), names, sum)
		}
		if done := q.open() < 1; told && done != (lacking == 0) || !told && done != (total >= replicas) {
			t.Fatalf("done %v with %d replicas, %v of %v", done, total, sum, names)
		}
	})
}
