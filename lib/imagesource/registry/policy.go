// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
)

// policy is Options.Registries, parsed. The empty one admits every registry
// with a public address.
type policy []rule

type rule struct {
	text  string // as it was written
	every bool   // the entry *
	host  string // lower case; ".example.com" for *.example.com
	port  string // "" for the scheme's own, "*" for any
	plain bool   // also without TLS
}

func parsePolicy(entries []string) (policy, error) {
	var p policy
	for _, entry := range entries {
		r := rule{text: entry}
		if entry == "*" {
			r.every = true
			p = append(p, r)
			continue
		}
		text := strings.ToLower(entry)
		text, r.plain = strings.CutPrefix(text, "http://")
		wild := strings.HasPrefix(text, "*.")
		if wild {
			text = text[1:]
		}
		r.host, r.port = splitHost(text)
		r.plain = r.plain || isLoopback(r.host)
		port, err := strconv.ParseUint(r.port, 10, 16)
		badPort := r.port != "" && r.port != "*" && (err != nil || port == 0)
		if badPort || strings.HasPrefix(r.host, ".") != wild || strings.Trim(r.host, ".") == "" || strings.ContainsAny(r.host, "/*@ \t\\[]") || strings.HasSuffix(text, ":") {
			return nil, &fault.Error{Op: "read the list of registries", Subject: strconv.Quote(entry), Err: errors.New("this names no registry"),
				Hint: "write host, host:port, host:*, *.domain, http://host:port or * under pull.registries in the site file"}
		}
		p = append(p, r)
	}
	return p, nil
}

// splitHost takes "host", "host:port", "[::1]:port" or "::1" apart.
func splitHost(text string) (host, port string) {
	if host, port, err := net.SplitHostPort(text); err == nil {
		return host, port
	}
	return strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), ""
}

// address is host:port in the form in which addresses are compared.
func address(scheme, hostport string) string {
	host, port := splitHost(strings.ToLower(hostport))
	if port == "" {
		port = "443"
		if scheme == "http" {
			port = "80"
		}
	}
	return net.JoinHostPort(host, port)
}

// rule finds the entry that lists an address by name, nil if there is none.
func (p policy) rule(address string) *rule {
	host, port := splitHost(address)
	for i, r := range p {
		if r.every {
			continue
		}
		samePort := port == r.port || r.port == "*" || r.port == "" && (port == "443" || r.plain && port == "80")
		sameHost := host == r.host || strings.HasPrefix(r.host, ".") && strings.HasSuffix(host, r.host) && len(host) > len(r.host)
		if samePort && sameHost {
			return &p[i]
		}
	}
	return nil
}

// admits reports whether a registry may be named at all.
func (p policy) admits(domain string) error {
	if len(p) == 0 || p.rule(address("https", domain)) != nil {
		return nil
	}
	var listed []string
	for _, r := range p {
		if r.every {
			return nil
		}
		listed = append(listed, r.text)
	}
	return &refusedError{host: domain, named: true, reason: "this site does not allow this registry",
		hint: "use one of: " + strings.Join(listed, ", ") + "; or ask the administrator to list it under pull.registries in the site file"}
}

// plain reports whether an address may be talked to without TLS.
func (p policy) plain(address string) bool {
	if r := p.rule(address); r != nil && r.plain {
		return true
	}
	host, _ := splitHost(address)
	return isLoopback(host)
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.Unmap().IsLoopback()
}

// check decides on a connection to ip, to which the host of address resolved.
func (p policy) check(address string, ip netip.Addr) error {
	ip = ip.Unmap()
	switch reachOf(ip) {
	case never:
		return &refusedError{host: address, reason: fmt.Sprintf("its address %s is local to the machine's own link or a cloud's metadata service", ip),
			hint: "name another registry; such addresses are never contacted"}
	case inside:
		if p.rule(address) == nil {
			return &refusedError{host: address, reason: fmt.Sprintf("its address %s is a loopback or private one", ip),
				hint: "name a public registry, or ask the administrator to list " + address + " under pull.registries in the site file"}
		}
	}
	return nil
}

// resolve checks every address that the host has here. A name that does not
// resolve here passes: it may resolve where the connection is made.
func (p policy) resolve(ctx context.Context, address string) error {
	host, _ := splitHost(address)
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return ctx.Err()
	}
	for _, ip := range ips {
		if err := p.check(address, ip); err != nil {
			return err
		}
	}
	return nil
}

// CheckHost tells whether the rules of Options.Registries admit the registry of
// ref, for a caller that lets somebody else connect to it. Errors are
// *fault.Error of side Request.
func CheckHost(ctx context.Context, ref imageref.Ref, registries []string) error {
	p, err := parsePolicy(registries)
	if err != nil {
		return err
	}
	if err = p.admits(ref.Domain); err == nil {
		err = p.resolve(ctx, address("https", apiHost(ref.Domain)))
	}
	var refused *refusedError
	if errors.As(err, &refused) {
		refused.named = true
	}
	return asFault("contact registry", ref.Domain, err)
}

// refusedError is what the policy does not admit.
type refusedError struct {
	host   string
	reason string
	hint   string
	named  bool // the request names the host, no registry led there
}

func (e *refusedError) Error() string { return "not connecting to " + e.host + ": " + e.reason }
