<?php

/** php-amqplib's whole story with the broker that AMQP_URI names; stops at the first step that fails. */

declare(strict_types=1);

require __DIR__ . '/support.php';
require __DIR__ . '/topology_steps.php';
require __DIR__ . '/message_steps.php';
require __DIR__ . '/error_steps.php';

const STEPS = [
    'connect',
    'declare_exchanges',
    'declare_queues',
    'bind_and_route',
    'properties',
    'acknowledgements',
    'prefetch',
    'confirms',
    'mandatory_return',
    'transactions',
    'get',
    'rpc_direct_reply_to',
    'large_body',
    'server_sent_cancel',
    'channel_errors',
    'wrong_password',
    'heartbeats',
    'alternate_exchange',
    'cc_header',
    'consumer_tags',
    'purge',
    'delete_conditions',
    'exclusive_consumer',
    'recover',
];

foreach (STEPS as $step) {
    try {
        $step();
    } catch (Throwable $error) {
        fwrite(STDERR, "failed $step\n$error\n");
        exit(1);
    }
    echo "ok $step\n";
}
