# Makes the inside of a lab; run by `labtool init` as the first process of fresh namespaces.
# $1: a directory of the lab's own; LAB_BRIDGE_NF, LAB_MOUNTS, LAB_SIZE, LAB_CGROUP: see LabOptions.
set -eu
dir=$1

# A /sys that shows this network namespace, with the machine's cgroups or a plain cgroup2 tree in it.
mkdir "$dir/cgroup"
mount --rbind /sys/fs/cgroup "$dir/cgroup"
mount -t sysfs sysfs /sys
if [ "$LAB_CGROUP" = v2 ]; then
    umount -R "$dir/cgroup"
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    mount --move "$dir/cgroup" /sys/fs/cgroup
fi

mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/netns /run/lab
mount -t tmpfs -o "mode=755,size=$LAB_SIZE" tmpfs /var/lib

printf 'nameserver 192.168.99.1\n' >"$dir/resolv.conf"
printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' >"$dir/hosts"
# Where the machine has none of these, neither has the lab.
for file in resolv.conf hosts; do
    [ ! -e /etc/$file ] || mount --bind "$dir/$file" /etc/$file
done
# Podman, where it is measured beside us, keeps networks here.
if [ -d /etc/containers ]; then
    cp -a /etc/containers "$dir/containers"
    rm -rf "$dir/containers/networks"
    mount --bind "$dir/containers" /etc/containers
fi
echo labhost >/proc/sys/kernel/hostname
# As on a machine booted by systemd, where every mount is shared, or as in a plain container.
mount "--make-r$LAB_MOUNTS" /

touch /run/lab/outside
unshare --net=/run/lab/outside true
outside() { nsenter --net=/run/lab/outside "$@"; }

echo 0 >/proc/sys/net/ipv4/ip_forward
if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then
    echo "$LAB_BRIDGE_NF" >/proc/sys/net/bridge/bridge-nf-call-iptables
    echo "$LAB_BRIDGE_NF" >/proc/sys/net/bridge/bridge-nf-call-ip6tables
fi
ip link set lo up
# No waiting for duplicate address detection: fe80 addresses would come and go while states are compared.
ip link add eth0 type veth peer name eth0 netns /run/lab/outside
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
ip addr add 192.168.99.109/24 dev eth0
ip addr add fd99::109/64 dev eth0 nodad
ip link set eth0 up
outside ip link set lo up
outside sh -c 'echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad'
outside ip addr add 192.168.99.1/24 dev eth0
outside ip addr add fd99::1/64 dev eth0 nodad
outside ip link set eth0 up
ip route add default via 192.168.99.1
ip route add default via fd99::1
