# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: AGPL-3.0

# The first process in the container of a private builder: closes the network,
# makes the cgroup of the steps, then runs the daemon ("$@") for as long as the
# standard input is open. Any failure before that is the end.
#
# NEVER, REFUSE: networks out of reach. ALLOW: address:port, exceptions from
# REFUSE. MEMORY: bytes for all steps together, 0 for no limit.
set -eu
exec 3<&0 </dev/null

for file in /proc/sys/net/ipv6/conf/*/disable_ipv6; do
	[ ! -e "$file" ] || echo 1 >"$file"
done

# OUTPUT is what the daemon sends, DOCKER-USER what the steps do: daemons pass
# all that through it before their own rules, and keep what is in it.
rule() {
	iptables -w -A ARVADOS "$@"
}
iptables -w -N ARVADOS
iptables -w -N DOCKER-USER
rule -o lo -j RETURN
rule -o docker0 -j RETURN
while read -r word address rest; do
	case $word,$address in
	nameserver,*:*) ;;
	nameserver,*)
		rule -d "$address" -p udp --dport 53 -j RETURN
		rule -d "$address" -p tcp --dport 53 -j RETURN
		;;
	esac
done </etc/resolv.conf
for net in $NEVER; do
	rule -d "$net" -j REJECT
done
for port in $ALLOW; do
	rule -d "${port%:*}" -p tcp --dport "${port##*:}" -j RETURN
done
for net in $REFUSE; do
	rule -d "$net" -j REJECT
done
iptables -w -A OUTPUT -j ARVADOS
iptables -w -A DOCKER-USER -j ARVADOS

for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do
	mount -o remount,bind,rw "$dir" 2>/dev/null || true # not all are mounts
done
cd /sys/fs/cgroup
if [ -e cgroup.controllers ]; then
	# Version 2: a cgroup that has others below has no processes of its own.
	mkdir daemon steps
	echo $$ >daemon/cgroup.procs
	read -r controllers <cgroup.controllers
	for controller in $controllers; do
		echo "+$controller" >cgroup.subtree_control || true # MEMORY fails if need be
	done
	if [ "$MEMORY" != 0 ]; then
		echo "$MEMORY" >steps/memory.max
		[ ! -e steps/memory.swap.max ] || echo 0 >steps/memory.swap.max
	fi
elif [ "$MEMORY" != 0 ]; then
	mkdir memory/steps
	echo 1 >memory/steps/memory.use_hierarchy
	echo "$MEMORY" >memory/steps/memory.limit_in_bytes
	[ ! -e memory/steps/memory.memsw.limit_in_bytes ] || echo "$MEMORY" >memory/steps/memory.memsw.limit_in_bytes
fi
cd /

mtu=1500
[ ! -e /sys/class/net/eth0/mtu ] || read -r mtu </sys/class/net/eth0/mtu
"$@" --mtu "$mtu" &
daemon=$!
{
	cat <&3 >/dev/null
	kill -KILL $daemon
} &
wait $daemon
