#!/usr/bin/env bash
# What the command line tools of rabbitmq-c can do of the story, with the broker that AMQP_URI names.

set -euo pipefail

run=$(tr -dc a-z0-9 </dev/urandom | head -c 12 || true)
queue="c.$run"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

equal() { # what, expected, actual
    [[ $2 == "$3" ]] || { echo "$1: expected '$2', got '$3'" >&2; exit 1; }
}

# Runs a command that must fail and say this text.
refused() { # text, command...
    local text=$1
    shift
    if "$@" >"$work/output" 2>&1; then
        echo "succeeded, expected '$text': $*" >&2
        exit 1
    fi
    grep -qF -- "$text" "$work/output" || { echo "expected '$text', got:" >&2; cat "$work/output" >&2; exit 1; }
}

get() { amqp-get -u "$AMQP_URI" -q "$queue"; }
publish() { amqp-publish -u "$AMQP_URI" "$@"; }
consume() { amqp-consume -u "$AMQP_URI" -q "$queue" "$@"; }

connect() {
    publish -r "$queue" -b "to nobody"
}

declare_queues() {
    equal "named" "$queue" "$(amqp-declare-queue -u "$AMQP_URI" -q "$queue" -d)"
    local generated
    generated=$(amqp-declare-queue -u "$AMQP_URI" -q "")
    equal "server-named" "amq.gen-" "${generated:0:8}"
    amqp-delete-queue -u "$AMQP_URI" -q "$generated" >"$work/count"
}

bind_and_route() {
    publish -r "$queue" -b "directly"
    equal "default exchange" "directly" "$(get)"
    # With an exchange the tool declares and binds a queue of its own; published until that is there.
    amqp-consume -u "$AMQP_URI" -x -e amq.topic -r "$run.#" -c 1 cat >"$work/received" 2>"$work/errors" &
    local consumer=$! deadline=$((SECONDS + 10))
    while kill -0 "$consumer" 2>"$work/gone" && ((SECONDS < deadline)); do
        publish -e amq.topic -r "x.$run" -b "lost"
        publish -e amq.topic -r "$run.a.b" -b "by topic"
    done
    wait "$consumer"
    equal "topic exchange" "by topic" "$(cat "$work/received")"
}

acknowledgements() {
    printf '%s\n' one two | publish -r "$queue" -l -p -C text/plain -E utf-8 -H "key: value"
    equal "acknowledged when the command succeeds" "one" "$(consume -c 1 cat)"
    # The command fails, the message is not acknowledged, and comes back with the end of the connection.
    printf '#!/bin/sh\ncat >"%s"\nexit 1\n' "$work/body" >"$work/fail"
    chmod +x "$work/fail"
    consume -c 1 "$work/fail"
    equal "back after a failure" "two" "$(consume -c 1 cat)"
}

prefetch() {
    printf '%s\n' one two | publish -r "$queue" -l
    # The command takes the second message while the consumer holds the first.
    printf '#!/bin/sh\ncat\nexec amqp-get -u "%s" -q "%s"\n' "$AMQP_URI" "$queue" >"$work/take_two"
    chmod +x "$work/take_two"
    equal "one at a time" $'one\ntwo' "$(consume -p 1 -c 1 "$work/take_two")"
}

get_step() {
    if get; then
        echo "a message in an empty queue" >&2
        exit 1
    fi
    publish -r "$queue" -b "here"
    equal "got" "here" "$(get)"
}

large_body() {
    head -c 5242880 /dev/urandom >"$work/sent"
    publish -r "$queue" <"$work/sent"
    get >"$work/received"
    cmp "$work/sent" "$work/received"
}

channel_errors() {
    refused "server channel error 404, message: NOT_FOUND - no queue '$queue.missing' in vhost '/'" \
        amqp-get -u "$AMQP_URI" -q "$queue.missing"
    refused "server channel error 404, message: NOT_FOUND - no exchange '$queue.missing' in vhost '/'" \
        amqp-publish -u "$AMQP_URI" -e "$queue.missing" -r key -b lost
    refused "server channel error 406, message: PRECONDITION_FAILED - inequivalent arg 'durable' for queue '$queue' in vhost '/': received 'false' but current is 'true'" \
        amqp-declare-queue -u "$AMQP_URI" -q "$queue"
}

wrong_password() {
    refused "server connection error 403, message: ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile." \
        amqp-get -u "${AMQP_URI/guest:guest@/guest:wrong@}" -q "$queue"
}

heartbeats() {
    consume --heartbeat=1 -c 1 cat >"$work/received" &
    local consumer=$!
    sleep 3.5
    publish -r "$queue" -b "alive"
    wait "$consumer"
    equal "after three idle intervals" "alive" "$(cat "$work/received")"
}

delete_conditions() {
    publish -r "$queue" -b "left"
    refused "PRECONDITION_FAILED - queue '$queue' in vhost '/' not empty" \
        amqp-delete-queue -u "$AMQP_URI" -q "$queue" -e
    equal "messages deleted" "1" "$(amqp-delete-queue -u "$AMQP_URI" -q "$queue")"
}

for step in connect declare_queues bind_and_route acknowledgements prefetch get_step large_body channel_errors \
    wrong_password heartbeats delete_conditions; do
    "$step"
    echo "ok ${step%_step}"
done
