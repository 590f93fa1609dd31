// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import "net/netip"

// reach is where an address leads.
type reach int

const (
	public reach = iota
	inside       // loopback and private networks
	never        // the machine's own link, and what clouds serve there
)

// neverNets: RFC 3927, RFC 4291 (link-local, multicast, unspecified), RFC 1122
// ("this network"), and the metadata services of clouds that lie elsewhere:
// AWS (IPv6), Alibaba, Oracle, Azure's wire server, Google (IPv6).
var neverNets = prefixes("169.254.0.0/16", "fe80::/10", "0.0.0.0/8", "::/128", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32",
	"fd00:ec2::/32", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32", "fd20:ce::254/128")

// insideNets: loopback, RFC 1918, RFC 4193, RFC 6598 (shared), RFC 3879 (site
// local), RFC 6890 (protocol assignments), RFC 2544 (benchmarks), and the
// reserved rest of IPv4.
var insideNets = prefixes("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
	"100.64.0.0/10", "fec0::/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4")

// Prefixes whose addresses lead to an IPv4 address within them: RFC 6052
// (NAT64), RFC 3056 (6to4), and the deprecated IPv4-compatible ones.
var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96")
)

// reachOf tells where a connection to addr would go.
func reachOf(addr netip.Addr) reach {
	addr = addr.WithZone("").Unmap()
	for _, net := range neverNets {
		if net.Contains(addr) {
			return never
		}
	}
	for _, net := range insideNets {
		if net.Contains(addr) {
			return inside
		}
	}
	bytes := addr.As16()
	switch {
	case addr.Is4():
	case nat64.Contains(addr), compatible.Contains(addr):
		return reachOf(netip.AddrFrom4([4]byte(bytes[12:])))
	case sixToFour.Contains(addr):
		return reachOf(netip.AddrFrom4([4]byte(bytes[2:6])))
	}
	return public
}

func prefixes(texts ...string) []netip.Prefix {
	var nets []netip.Prefix
	for _, text := range texts {
		nets = append(nets, netip.MustParsePrefix(text))
	}
	return nets
}
