#!/usr/bin/env bash
# Builds the image of docker/Dockerfile and lives with it for a while: it runs as nobody in particular and in a root that
# nothing can be written to, becomes healthy, takes the variables of RabbitMQ's image, answers under the names of
# RabbitMQ's tools, ends when it is told to, and has everything again after a stop, a kill and an update of the container.
#
#   docker/build.sh && tests/image.sh
#
# It needs a Docker daemon on this machine and says so if there is none (an error with LEVERET_TESTS_NO_SKIP=1). DOCKER is
# the command, docker if it is not set. Nothing is fetched: the image begins with nothing. Containers use the network of
# the machine, on free ports.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

docker=${DOCKER:-docker}
name=leveret-image-test-$$
image=$name
# As docker/build.sh has it, of the binaries alone.
bytes_max=$((20 * 1000 * 1000))
# Seconds.
healthy_max=60
stopped_max=15

fail() {
    echo "tests/image.sh: $*" >&2
    "$docker" logs --tail 30 "$name" >&2 2> /dev/null || true
    exit 1
}

if ! "$docker" version > /dev/null 2>&1; then
    [[ ${LEVERET_TESTS_NO_SKIP:-} != 1 ]] || fail "no Docker daemon answers, and LEVERET_TESTS_NO_SKIP=1"
    echo "SKIPPED: no Docker daemon answers ($docker version)"
    exit 0
fi
[[ -x target/image/root/leveret ]] || fail "there is nothing to make an image of; docker/build.sh does that"

# Leaves nothing behind.
clean_up() {
    "$docker" rm --force "$name" > /dev/null 2>&1 || true
    "$docker" volume rm --force "$name" > /dev/null 2>&1 || true
    "$docker" image rm --force "$image" > /dev/null 2>&1 || true
}
trap clean_up EXIT

# Prints a port that nobody listens on.
free_port() {
    local port
    while true; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null || break
    done
    echo "$port"
}

# A container with the volume and the variables of every one here.
start() {
    "$docker" run --detach --name "$name" --network host --read-only --cap-drop ALL \
        --security-opt no-new-privileges --health-interval 1s --volume "$name:/var/lib/leveret" \
        --env RABBITMQ_DEFAULT_USER=app --env RABBITMQ_DEFAULT_PASS=secret --env RABBITMQ_DEFAULT_VHOST=shop \
        --env "LEVERET_AMQP_LISTEN=127.0.0.1:$amqp_port" --env "LEVERET_MANAGEMENT_LISTEN=127.0.0.1:$port" \
        --env LEVERET_METRICS_LISTEN=none --env LEVERET_LOG_FORMAT=json "$image" > /dev/null
}

state() {
    "$docker" inspect --format "{{.State.$1}}" "$name"
}

wait_until_healthy() {
    local deadline=$((SECONDS + healthy_max))
    until [[ $(state Health.Status) == healthy ]]; do
        [[ $(state Running) == true ]] || fail "it ended with $(state ExitCode)"
        ((SECONDS < deadline)) || fail "not healthy in $healthy_max s"
        sleep 0.2
    done
}

# A tool in the container.
tool() {
    "$docker" exec "$name" "$@" || fail "$*: exit code $?"
}

# Method, path and body; prints what is answered. Without curl: bash speaks enough of HTTP.
api() {
    local answer
    exec 3<> "/dev/tcp/127.0.0.1/$port"
    printf '%s /api/%s HTTP/1.0\r\nAuthorization: Basic %s\r\nContent-Length: %d\r\n\r\n%s' \
        "$1" "$2" "$(printf app:secret | base64)" "${#3}" "$3" >&3
    answer=$(cat <&3)
    exec 3<&-
    [[ $answer == HTTP/1.?' 20'* ]] || fail "$1 $2: $answer"
    echo "$answer"
}

# The message that was published is there.
expect_message() {
    local listed
    listed=$(tool rabbitmqctl -q list_queues -p shop name messages)
    [[ $listed == *$'q\t1' ]] || fail "$1: $listed"
}

amqp_port=$(free_port)
port=$(free_port)
[[ $port != "$amqp_port" ]] || port=$((port + 1))

echo "== the image"
# The builder of old, which every daemon has.
DOCKER_BUILDKIT=0 "$docker" build --quiet --tag "$image" --file docker/Dockerfile target/image > /dev/null 2>&1 ||
    "$docker" build --tag "$image" --file docker/Dockerfile target/image
bytes=$("$docker" image inspect --format '{{.Size}}' "$image")
echo "$bytes octets"
((bytes <= bytes_max)) || fail "more than $bytes_max octets"
user=$("$docker" image inspect --format '{{.Config.User}}' "$image")
[[ $user == 10001:10001 ]] || fail "it runs as '$user'"

echo "== a mistake in a variable ends it, with the code for that"
code=0
"$docker" run --rm --network none --env LEVERET_HEARTBEAT=60 "$image" 2> /dev/null || code=$?
[[ $code == 2 ]] || fail "exit code $code"

echo "== the first start"
start
wait_until_healthy
process=$(state Pid)
[[ $(awk '/^Uid:/ { print $2 }' "/proc/$process/status") == 10001 ]] || fail "its process has another user"
[[ $(awk '/^CapEff:/ { print $2 }' "/proc/$process/status") =~ ^0+$ ]] || fail "it may do more than others"

echo "== the tools by RabbitMQ's names, without a password"
tool rabbitmq-diagnostics -q ping
tool rabbitmq-diagnostics -q check_port_connectivity
# As compose files and probes have it: by a shell, which the image has not.
tool sh -c 'rabbitmq-diagnostics -q ping || exit 1'
tool /bin/bash -ec 'rabbitmq-diagnostics -q check_running && rabbitmq-diagnostics -q check_local_alarms > /dev/null'
! "$docker" exec "$name" sh -c 'ls /' 2> /dev/null || fail "there is a shell"
[[ $(tool rabbitmqctl -q list_vhosts) == *shop* ]] || fail "the default vhost is not there"
[[ $(tool rabbitmqctl -q list_users) == *$'app\t[administrator]'* ]] || fail "the default user is not there"
tool rabbitmq-plugins -q list -e > /dev/null
tool rabbitmq-queues --help > /dev/null

echo "== a stop, a kill, and another container: nothing is lost"
api PUT queues/shop/q '{"durable":true}' > /dev/null
message='{"routing_key":"q","properties":{"delivery_mode":2},"payload":"kept","payload_encoding":"string"}'
[[ $(api POST exchanges/shop/amq.default/publish "$message") == *'"routed":true'* ]] || fail "nothing was routed"
expect_message "before the stop"
started=$SECONDS
"$docker" stop --time 40 "$name" > /dev/null
((SECONDS - started <= stopped_max)) || fail "stopping took $((SECONDS - started)) s"
[[ $(state ExitCode) == 0 ]] || fail "it ended with $(state ExitCode)"
"$docker" start "$name" > /dev/null
wait_until_healthy
expect_message "after a stop"
"$docker" kill "$name" > /dev/null
"$docker" start "$name" > /dev/null
wait_until_healthy
expect_message "after a kill"
"$docker" rm --force "$name" > /dev/null
start
wait_until_healthy
expect_message "in another container"
got=$(api POST queues/shop/q/get '{"count":1,"ackmode":"ack_requeue_false","encoding":"auto"}')
[[ $got == *'"payload":"kept"'* ]] || fail "another message: $got"
echo "the image does what it should"
