// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"strings"
	"testing"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
	"pgregory.net/rapid"
)

var _ = check.Suite(&outputSuite{})

type outputSuite struct{}

const (
	emptyBlock = "d41d8cd98f00b204e9800998ecf8427e+0"
	ctrUUID    = "zzzzz-dz642-j18in68lb2968u3"
	retryUUID  = "zzzzz-dz642-111111111111111"
)

func (*outputSuite) TestPropertiesOfTheOutput(c *check.C) {
	request := Record{"uuid": "cr", "output_properties": map[string]any{"from_cr": "1", "both": "cr", "sub": map[string]any{"x": int64(1)}}}
	container := Record{"output_properties": map[string]any{"from_container": "final", "both": "container", "in_final": "yes"}}
	c.Check(OutputProperties(request, container), check.DeepEquals, map[string]any{
		"both": "cr", "container_request": "cr", "from_container": "final", "from_cr": "1", "in_final": "yes",
		"sub": map[string]any{"x": int64(1)}, "type": "output"})

	request["requesting_container_uuid"] = ctrUUID
	c.Check(OutputProperties(request, container)["type"], check.Equals, "intermediate")

	container["output_properties"] = map[string]any{"type": "mine", "container_request": "other"}
	c.Check(OutputProperties(request, container)["type"], check.Equals, "mine")
	c.Check(OutputProperties(request, container)["container_request"], check.Equals, "other")

	c.Check(LogProperties(request), check.DeepEquals, map[string]any{"container_request": "cr", "type": "log"})
}

func (*outputSuite) TestNames(c *check.C) {
	c.Check(OutputName(Record{"uuid": "cr"}), check.Equals, "Container output for request cr")
	c.Check(OutputName(Record{"uuid": "cr", "output_name": ""}), check.Equals, "Container output for request cr")
	c.Check(OutputName(Record{"uuid": "cr", "output_name": "out"}), check.Equals, "out")
	for _, impossible := range []string{".", "..", "a/b"} {
		c.Check(OutputName(Record{"uuid": "cr", "output_name": impossible}), check.Equals, "Container output for request cr")
	}
	c.Check(LogName(Record{"uuid": "cr"}), check.Equals, "Container log for request cr")
	c.Check(ContainerLogName("ctr"), check.Equals, "Container log for container ctr")
}

// The hash of the last one is a real cluster's.
func (*outputSuite) TestLogsOfAllContainersInOneCollection(c *check.C) {
	const first = ". " + emptyBlock + " 0:0:crunch-run.txt 0:0:stderr.txt\n"
	const folder = `./log\040for\040container\040`
	for _, trial := range []struct {
		manifest, log, container string
		top                      bool
		want                     string
	}{
		{"", first, ctrUUID, true, first + folder + ctrUUID + " " + emptyBlock + " 0:0:crunch-run.txt 0:0:stderr.txt\n"},
		{"", first, ctrUUID, false, folder + ctrUUID + " " + emptyBlock + " 0:0:crunch-run.txt 0:0:stderr.txt\n"},
		{
			". 0cc175b9c0f1b6a831c399e269772661+1 0:1:stderr.txt\n" + folder + ctrUUID + " 0cc175b9c0f1b6a831c399e269772661+1 0:1:stderr.txt\n",
			". 92eb5ffee6ae2fec3ad71c777531578f+1 0:1:stderr.txt 0:0:stdout.txt\n", retryUUID, true,
			". 92eb5ffee6ae2fec3ad71c777531578f+1 0:1:stderr.txt 0:0:stdout.txt\n" +
				folder + retryUUID + " 92eb5ffee6ae2fec3ad71c777531578f+1 0:1:stderr.txt 0:0:stdout.txt\n" +
				folder + ctrUUID + " 0cc175b9c0f1b6a831c399e269772661+1 0:1:stderr.txt\n",
		},
		{"", "", ctrUUID, true, ""},
		{"", ". " + emptyBlock + " 0:0:stderr.txt\n", ctrUUID, true,
			". " + emptyBlock + " 0:0:stderr.txt\n" + folder + ctrUUID + " " + emptyBlock + " 0:0:stderr.txt\n"},
	} {
		merged, err := MergeLog(trial.manifest, trial.log, trial.container, trial.top)
		c.Assert(err, check.IsNil)
		c.Check(merged, check.Equals, trial.want)
		if strings.Contains(trial.log, "crunch-run") || trial.log == "" || trial.container == retryUUID {
			continue
		}
		c.Check(arvados.PortableDataHash(merged), check.Equals, "79cc1f7d3fe00cb48751c5a07b100462+159")
	}
}

func (*outputSuite) TestLogsThatCannotBeRead(c *check.C) {
	_, err := MergeLog("", "x", ctrUUID, true)
	c.Check(err, check.NotNil)
	_, err = MergeLog("x", "", ctrUUID, true)
	c.Check(err, check.NotNil)
}

func TestMergingALogAgainChangesNothing(t *testing.T) {
	name := rapid.StringMatching(`[a-c]{1,2}(\.txt)?`)
	rapid.Check(t, func(t *rapid.T) {
		log := ""
		for _, n := range rapid.SliceOfNDistinct(name, 1, 4, rapid.ID).Draw(t, "files") {
			log += ". 0cc175b9c0f1b6a831c399e269772661+1 0:1:" + n + "\n"
		}
		once, err := MergeLog("", log, ctrUUID, true)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := MergeLog(once, log, ctrUUID, true)
		if err != nil || twice != once {
			t.Fatalf("%q became %q (%v)", once, twice, err)
		}
	})
}

func (*outputSuite) TestWhatIsAnImage(c *check.C) {
	hex := strings.Repeat("a", 64)
	for manifest, is := range map[string]bool{
		". " + emptyBlock + " 0:0:sha256:" + hex + ".tar\n":                     true,
		". " + emptyBlock + ` 0:0:sha256\072` + hex + ".tar\n":                  true,
		". " + emptyBlock + ` 0:0:sha256\072` + strings.ToUpper(hex) + ".tar\n": true,
		"./sub " + emptyBlock + ` 0:0:sha256\072` + hex + ".tar\n":              true,
		". " + emptyBlock + " 0:0:" + hex + ".tar\n":                            false,
		". " + emptyBlock + ` 0:0:sha256\072` + hex[:63] + ".tar\n":             false,
		". " + emptyBlock + " 0:0:foo.tar\n":                                    false,
		". " + emptyBlock + ` 0:0:sha256\072` + hex + ".tar 0:0:readme.txt\n":   false,
		". " + emptyBlock + ` 0:0:sha256\072` + hex + ".tar/x\n":                false,
		"":  false,
		"x": false,
	} {
		c.Check(IsImage(manifest), check.Equals, is, check.Commentf("%q", manifest))
	}
}
