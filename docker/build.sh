#!/usr/bin/env bash
# Builds static binaries, puts together what the image consists of, and tries it in a root directory that holds nothing
# else. Without Docker; what is tried is what docker/Dockerfile copies.
#
#   docker/build.sh           builds, checks and tries
#   docker/build.sh --check   checks and tries what was built before
#
# BINARIES names what goes into the image (leveret and leveretctl).

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

binaries=(${BINARIES:-leveret leveretctl})
triple=$(rustc -vV | sed -n 's/^host: //p')
built=${CARGO_TARGET_DIR:-target}/$triple/release
image=target/image
# An image of this project has no reason to be larger.
bytes_max=$((20 * 1000 * 1000))

build() {
    local args=()
    for binary in "${binaries[@]}"; do
        args+=(--bin "$binary")
    done
    # Static binaries cannot look for getrandom at run time: the crate of that name would read /dev/urandom instead, which
    # an empty root has not. With --target, flags do not reach procedural macros, which cannot be static.
    local flags='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"'
    RUSTFLAGS="$flags ${RUSTFLAGS:-}" cargo build --release --target "$triple" "${args[@]}"
    rm -rf "$image"
    mkdir -p "$image/root/etc" "$image/data"
    for binary in "${binaries[@]}"; do
        cp "$built/$binary" "$image/root/$binary"
        strip "$image/root/$binary"
    done
    # By these names scripts and health checks call the tools in a container. There is no shell: what a health check or a probe
    # has one run, leveretctl runs if it is a tool.
    mkdir "$image/root/bin"
    for name in leveretctl rabbitmqctl rabbitmq-diagnostics rabbitmq-plugins rabbitmq-queues sh bash; do
        ln -s /leveretctl "$image/root/bin/$name"
    done
    echo 'leveret:x:10001:10001::/var/lib/leveret:/nologin' > "$image/root/etc/passwd"
    echo 'leveret:x:10001:' > "$image/root/etc/group"
}

fail() {
    echo "docker/build.sh: $*" >&2
    exit 1
}

# No interpreter, no libraries.
check() {
    for binary in "${binaries[@]}"; do
        local file=$image/root/$binary
        [[ -x $file ]] || fail "$file is missing; build it first"
        if readelf --program-headers "$file" | grep -q INTERP; then
            fail "$file is not static"
        fi
        if readelf --dynamic "$file" 2>/dev/null | grep -q NEEDED; then
            fail "$file needs libraries"
        fi
    done
    local bytes
    bytes=$(du --bytes --summarize "$image/root" | cut -f1)
    echo "root of the image: $bytes octets"
    ((bytes <= bytes_max)) || fail "more than $bytes_max octets"
}

# Runs the broker where there is nothing but the image, as the image's user.
try() {
    as_root=()
    ((EUID == 0)) || as_root=(sudo)
    root=$(mktemp -d)
    broker=
    trap 'end_trial' EXIT
    cp -a "$image/root/." "$root"
    mkdir -p "$root/var/lib/leveret" "$root/proc"
    chmod 755 "$root"
    "${as_root[@]}" chown -R 10001:10001 "$root/var/lib/leveret"
    "${as_root[@]}" chroot --userspec=10001:10001 "$root" /leveret --version
    local log=$root/log
    "${as_root[@]}" env LEVERET_DATA_DIR=/var/lib/leveret LEVERET_MANAGEMENT_LISTEN=none RABBITMQ_DEFAULT_USER=hare RABBITMQ_DEFAULT_PASS=field \
        chroot --userspec=10001:10001 "$root" /leveret --amqp-listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 \
        2> "$log" &
    broker=$!
    local port=
    for _ in $(seq 100); do
        grep -q 'Server startup complete' "$log" && break
        kill -0 "$broker" 2>/dev/null || fail "it ended: $(cat "$log")"
        sleep 0.1
    done
    port=$(sed -n 's/.*scrapers of metrics.*127.0.0.1:\([0-9]*\).*/\1/p' "$log")
    [[ -n $port ]] || fail "it does not listen: $(cat "$log")"
    # Without curl: bash speaks enough of HTTP.
    exec 3<> "/dev/tcp/127.0.0.1/$port"
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
    grep -q '^rabbitmq_build_info' <&3 || fail "there are no metrics"
    exec 3<&-
    kill -TERM "$broker"
    wait "$broker" || fail "it did not end well: $(cat "$log")"
    broker=
    [[ -n $(ls "$root/var/lib/leveret") ]] || fail "it kept nothing"
    echo "it runs in an empty root"
}

# Leaves nothing behind, however the trial went.
end_trial() {
    [[ -z $broker ]] || kill -KILL "$broker" 2>/dev/null || true
    "${as_root[@]}" rm -rf "$root"
}

[[ ${1:-} == --check ]] || build
check
try
