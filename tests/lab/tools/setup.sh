# Makes the inside of a lab; run by `labtool init` as the first process of fresh namespaces.
# $1: a directory of the lab's own; LAB_BRIDGE_NF, LAB_MOUNTS, LAB_SIZE, LAB_CGROUP, LAB_USER …: see LabOptions.
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
# An ordinary user, with a session, and with device files that are open to all as on most machines.
if [ -n "$LAB_USER" ]; then
    user=$LAB_USER uid=$LAB_UID
    for file in passwd group subuid subgid shadow; do
        [ -e /etc/$file ] && grep -v "^$user:" /etc/$file >"$dir/$file" || : >"$dir/$file"
    done
    echo "$user:x:$uid:$uid::/home/$user:/bin/sh" >>"$dir/passwd"
    echo "$user:x:$uid:" >>"$dir/group"
    echo "$user:!:20000:0:99999:7:::" >>"$dir/shadow"
    echo "$user:200000:65536" | tee -a "$dir/subuid" >>"$dir/subgid"
    chmod 600 "$dir/shadow"
    for file in passwd group subuid subgid shadow; do
        [ ! -e /etc/$file ] || mount --bind "$dir/$file" /etc/$file
    done
    mount -t tmpfs -o "mode=755,size=$LAB_SIZE" tmpfs /home
    install -d -m 700 -o "$uid" -g "$uid" "/home/$user" /run/user "/run/user/$uid"
    chmod 755 /run/user
    # The directory that podwire was built in may be closed to others.
    mkdir /run/lab/bin
    touch /run/lab/bin/podwire
    mount --bind "$LAB_PODWIRE" /run/lab/bin/podwire
    chmod 755 "$dir"
    mkdir /run/lab/dev
    for device in net/tun:10:200 fuse:10:229; do
        file=${device%%:*} numbers=${device#*:}
        [ -e "/dev/$file" ] || continue
        node=/run/lab/dev/${file#*/}
        mknod -m 666 "$node" c "${numbers%:*}" "${numbers#*:}"
        mount --bind "$node" "/dev/$file"
    done
fi
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
