# Builds a machine of its own in the folder $1, and becomes its systemd. It runs in new
# namespaces, as the first process of one of them. $2: the checkout, $3: a folder of wheels.
# Both can be read there only, /usr too; all else is in memory and gone with the last process.
set -eu
root=$1 source=$2 wheels=$3
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir -p usr etc opt run var/lib root home proc sys old src wheels dev
mkdir -m 1777 tmp var/tmp
bind() {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}
bind /usr usr
bind "$source" src
bind "$wheels" wheels
for name in bin sbin lib lib64; do
    [ ! -L /$name ] || cp -P /$name .
done
cp -a /etc/. etc/
rm -rf etc/systemd
echo 0123456789abcdef0123456789abcdef >etc/machine-id
# Where systemd finds no /dev of this machine it mounts that of the whole one.
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do
    : >dev/$name
    mount --bind /dev/$name dev/$name
done
ln -s pts/ptmx dev/ptmx
mount -t proc proc proc
bind proc/sys proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup

# Only these units exist, and what is installed in /etc/systemd/system: nothing that would
# tend the rest of the machine, such as its temporary files.
mkdir -p etc/systemd/system etc/systemd/machine
units=etc/systemd/machine
for name in sysinit basic sockets network-online shutdown; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $name >$units/$name.target
done
printf '[Unit]\nRequires=basic.target\nWants=sockets.target systemd-journald.service\n' \
    >$units/multi-user.target
cp usr/lib/systemd/system/systemd-journald.service usr/lib/systemd/system/systemd-journald.socket \
    $units/

pivot_root . old
umount -l old
rmdir old
cd /
exec env -i container=test PATH=/usr/sbin:/usr/bin SYSTEMD_GENERATOR_PATH=/none \
    SYSTEMD_UNIT_PATH=/etc/systemd/system:/etc/systemd/machine \
    /usr/lib/systemd/systemd --system --unit=multi-user.target --show-status=no
