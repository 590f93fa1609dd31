// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"git.arvados.org/arvados.git/lib/fault"
	dockernetwork "github.com/docker/docker/api/types/network"
)

// neverNets are always out of reach, for the daemon and for steps: RFC 3927
// (link-local), and the metadata services of clouds that lie elsewhere (Alibaba,
// Oracle, Azure's wire server). There is no IPv6 at all.
var neverNets = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("100.100.100.200/32"),
	netip.MustParsePrefix("192.0.0.192/32"),
	netip.MustParsePrefix("168.63.129.16/32"),
}

// stepNets are what the network of the steps may be, with the address of the
// second daemon in it; nobody else sees it, but what has an address in it
// elsewhere could not be reached. So they are from those that nobody should
// have: RFC 2544 (benchmarks), RFC 5737 (documentation).
var stepNets = []netip.Prefix{
	netip.MustParsePrefix("198.19.255.1/24"),
	netip.MustParsePrefix("203.0.113.1/24"),
	netip.MustParsePrefix("198.51.100.1/24"),
}

// privateNetwork is that of a private builder.
type privateNetwork struct {
	mode   string         // NetworkBridge or NetworkNone
	refuse []netip.Prefix // what is out of reach beside neverNets
	bridge netip.Prefix   // one of stepNets
}

// privateNetwork finds out what must be out of reach: the node itself, on all
// of its addresses, and the containers that share the node's bridge.
func (e *Engine) privateNetwork(ctx context.Context, opts PrivateOptions) (privateNetwork, error) {
	n := privateNetwork{mode: opts.Network}
	if n.mode == "" {
		n.mode = NetworkBridge
	}
	mistake := &fault.Error{Op: "start a private builder with", Side: fault.Engine}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		mistake.Subject, mistake.Err = "this node's addresses out of reach", err
		return n, mistake
	}
	var own []netip.Prefix
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil && prefix.Addr().Is4() {
			own = append(own, prefix)
		}
	}
	if n.bridge, err = stepNet(own); err != nil {
		mistake.Subject, mistake.Err = "a network for its steps", err
		return n, mistake
	}
	switch n.mode {
	case NetworkNone:
		return n, nil
	case NetworkBridge:
	default:
		mistake.Subject, mistake.Err = "the network "+n.mode, fmt.Errorf("it must be %s or %s", NetworkBridge, NetworkNone)
		return n, mistake
	}
	for _, prefix := range own {
		n.refuse = append(n.refuse, netip.PrefixFrom(prefix.Addr(), 32))
	}
	bridge, err := e.cli.NetworkInspect(ctx, NetworkBridge, dockernetwork.InspectOptions{})
	if err != nil {
		f := e.fault("look at the network", NetworkBridge, err)
		f.Hint = "build.builder: private needs the Docker Engine's default bridge, or builds without a network"
		return n, f
	}
	for _, config := range bridge.IPAM.Config {
		if prefix, err := netip.ParsePrefix(config.Subnet); err == nil && prefix.Addr().Is4() {
			n.refuse = append(n.refuse, prefix.Masked())
		}
	}
	return n, nil
}

// stepNet is the first of stepNets that hides no network of the node.
func stepNet(own []netip.Prefix) (netip.Prefix, error) {
	for _, candidate := range stepNets {
		if !slices.ContainsFunc(own, candidate.Overlaps) {
			return candidate, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("this node has addresses in all of %v", stepNets)
}
