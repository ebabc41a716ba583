#!/usr/bin/env bash
# Makes a Debian package of the static binaries that docker/build.sh has built and tried. It depends on nothing, so one
# package is for all releases.
#
#   docker/build.sh && packaging/deb.sh      leaves it in target/

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binaries=target/image/root
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
architecture=$(dpkg --print-architecture)
out=target/leveret_${version}_${architecture}.deb
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

for binary in "$binaries"/leveret*; do
    install -D --mode 755 "$binary" "$root/usr/bin/${binary##*/}"
done
install -D --mode 644 packaging/leveret.service "$root/usr/lib/systemd/system/leveret.service"
install -D --mode 600 packaging/debian/default "$root/etc/default/leveret"
install -D --mode 644 LICENSE "$root/usr/share/doc/leveret/copyright"
install -D --mode 644 README.md "$root/usr/share/doc/leveret/README.md"
for script in postinst prerm postrm; do
    install -D --mode 755 "packaging/debian/$script" "$root/DEBIAN/$script"
done
echo /etc/default/leveret > "$root/DEBIAN/conffiles"
cat > "$root/DEBIAN/control" <<CONTROL
Package: leveret
Version: $version
Architecture: $architecture
Maintainer: The Leveret authors
Installed-Size: $(du --summarize --block-size=1K "$root/usr" | cut -f1)
Pre-Depends: passwd
Section: net
Priority: optional
Description: AMQP 0-9-1 message broker for RabbitMQ clients
 Keeps messages in queues and delivers them to consumers, in the protocol and with the extensions that clients of
 RabbitMQ speak. One binary and one data directory, /var/lib/leveret.
CONTROL
dpkg-deb --build --root-owner-group "$root" "$out"
