<?php

/**
 * Routing: prints the lines of the severities asked for.
 *
 * Usage: receive_logs_direct.php warning error
 */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

$severities = array_slice($argv, 1);
if (!$severities) {
    fwrite(STDERR, "Usage: {$argv[0]} severity...\n");
    exit(1);
}

$channel = connect()->channel();
$channel->exchange_declare('example.direct_logs', 'direct', durable: true, auto_delete: false);
[$queue] = $channel->queue_declare('', exclusive: true);
foreach ($severities as $severity) {
    $channel->queue_bind($queue, 'example.direct_logs', $severity);
}
$on_line = function (AMQPMessage $message): void {
    echo "Received {$message->getRoutingKey()}: {$message->getBody()}\n";
};
$channel->basic_consume($queue, no_ack: true, callback: $on_line);
echo "Waiting for logs\n";
$channel->consume();
