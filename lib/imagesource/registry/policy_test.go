// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"net/netip"

	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

type policySuite struct{}

var _ = check.Suite(&policySuite{})

func (*policySuite) TestAddresses(c *check.C) {
	for _, t := range []struct {
		where reach
		ips   []string
	}{
		{public, []string{"8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "100.128.0.1", "172.32.0.1", "64:ff9b::808:808", "2002:808:808::1"}},
		{inside, []string{"127.0.0.1", "127.1.2.3", "::1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd12::1", "100.64.0.1",
			"::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "::127.0.0.1", "198.18.0.1", "240.0.0.1"}},
		{never, []string{"169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16",
			"::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "fd20:ce::254"}},
	} {
		for _, ip := range t.ips {
			c.Check(reachOf(netip.MustParseAddr(ip)), check.Equals, t.where, check.Commentf("%s", ip))
		}
	}
}

func (*policySuite) TestListedAddresses(c *check.C) {
	p, err := parsePolicy([]string{"Registry.Example.com", "lab.example.com:5000", "*.corp.example", "*.corp.example:8443", "http://10.0.0.7:5000", "http://plain.example", "[::1]:5000", "localhost", "*"})
	c.Assert(err, check.IsNil)
	for _, t := range []struct {
		scheme, host  string
		listed, plain bool
	}{
		{"https", "registry.example.com", true, false},
		{"https", "registry.example.com:443", true, false},
		{"https", "registry.example.com:5000", false, false},
		{"http", "registry.example.com", false, false},
		{"https", "other.example.com", false, false},
		{"https", "lab.example.com:5000", true, false},
		{"https", "lab.example.com", false, false},
		{"https", "a.corp.example", true, false},
		{"https", "a.b.Corp.example", true, false},
		{"https", "corp.example", false, false},
		{"https", "evilcorp.example", false, false},
		{"https", "a.corp.example:8443", true, false},
		{"https", "a.corp.example:1", false, false},
		{"https", "10.0.0.7:5000", true, true},
		{"https", "10.0.0.7", false, false},
		{"http", "plain.example", true, true},
		{"https", "plain.example", true, true},
		{"https", "plain.example:8080", false, false},
		{"https", "[::1]:5000", true, true},
		{"http", "localhost", true, true},
		{"https", "127.0.0.1:1", false, true},
		{"https", "registry.localhost:1", false, true},
	} {
		at := address(t.scheme, t.host)
		c.Check(p.rule(at) != nil, check.Equals, t.listed, check.Commentf("%s %s", t.scheme, at))
		c.Check(p.plain(at), check.Equals, t.plain, check.Commentf("%s %s", t.scheme, at))
		c.Check(p.check(at, netip.MustParseAddr("10.9.9.9")) == nil, check.Equals, t.listed)
		c.Check(p.check(at, netip.MustParseAddr("9.9.9.9")), check.IsNil)
		c.Check(p.check(at, netip.MustParseAddr("169.254.1.1")), check.ErrorMatches, "not connecting to .*")
	}
}

func (*policySuite) TestAllowList(c *check.C) {
	for _, t := range []struct {
		list    []string
		domain  string
		allowed bool
	}{
		{nil, "docker.io", true},
		{nil, "anything.example:1", true},
		{[]string{"docker.io"}, "docker.io", true},
		{[]string{"docker.io"}, "quay.io", false},
		{[]string{"*.example.com"}, "a.example.com", true},
		{[]string{"*.example.com"}, "a.example.com:5000", false},
		{[]string{"127.0.0.1:5000"}, "docker.io", false},
		{[]string{"127.0.0.1:5000", "*"}, "docker.io", true},
		{[]string{"http://127.0.0.1:5000"}, "127.0.0.1:5000", true},
	} {
		p, err := parsePolicy(t.list)
		c.Assert(err, check.IsNil)
		c.Check(p.admits(t.domain) == nil, check.Equals, t.allowed, check.Commentf("%v %s", t.list, t.domain))
	}
}

func (*policySuite) TestMalformedEntries(c *check.C) {
	for _, entry := range []string{"", ".", "*.", "**", "*example.com", ".example.com", "a.*.com", "https://example.com", "ftp://x", "example.com/path", "example.com:", "example.com:http", "example.com:0", "example.com:65536", "a b", "user@host", "http://", "http://*"} {
		_, err := New(Options{Registries: []string{"docker.io", entry}})
		c.Assert(err, check.FitsTypeOf, &fault.Error{}, check.Commentf("%q", entry))
		c.Check(err, check.ErrorMatches, `read the list of registries ".*": this names no registry \(write host, .*\)`)
	}
}
