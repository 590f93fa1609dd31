// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localcluster

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

type settingsSuite struct{}

var _ = check.Suite(&settingsSuite{})

// No address is given twice, and none that the system could give to somebody else
// before the cluster starts.
func (*settingsSuite) TestFreeAddresses(c *check.C) {
	addresses, err := freeAddresses(100)
	c.Assert(err, check.IsNil)
	seen := map[string]bool{}
	for _, address := range addresses {
		c.Check(seen[address], check.Equals, false)
		seen[address] = true
		host, text, err := net.SplitHostPort(address)
		c.Assert(err, check.IsNil)
		c.Check(host, check.Equals, "127.0.0.1")
		port, err := strconv.Atoi(text)
		c.Assert(err, check.IsNil)
		c.Check(port >= 20000 && port < 30000, check.Equals, true)
		l, err := net.Listen("tcp", address) // nobody holds it any more
		c.Assert(err, check.IsNil)
		c.Check(l.Close(), check.IsNil)
	}
}

// A cluster is the same one at each start: clients keep their addresses and tokens.
func (*settingsSuite) TestSameAtEachStart(c *check.C) {
	dir := filepath.Join(c.MkDir(), "new")
	log := logrus.New()
	log.SetOutput(io.Discard)
	var before *Settings
	for range 2 {
		cl, err := Start(context.Background(), Options{Dir: dir, Log: log})
		c.Assert(err, check.IsNil)
		var user arvados.User
		c.Check(cl.UserClient(User).RequestAndDecode(&user, "GET", "arvados/v1/users/current", nil, nil), check.IsNil)
		c.Check(user.UUID, check.Matches, cl.ClusterID+"-tpzed-.*")
		c.Check(cl.Stop(), check.IsNil)
		if before != nil {
			c.Check(cl.Settings, check.DeepEquals, before)
		}
		before = cl.Settings
	}
	info, err := os.Stat(filepath.Join(dir, "cluster.json"))
	c.Assert(err, check.IsNil)
	c.Check(info.Mode().Perm(), check.Equals, os.FileMode(0600)) // it has the cluster's secrets
}
