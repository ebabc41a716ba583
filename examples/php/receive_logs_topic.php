<?php

/**
 * Topics: prints the lines whose key matches a pattern; * stands for one word, # for any number of words.
 *
 * Usage: receive_logs_topic.php 'kern.*' '#.critical'
 */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

$patterns = array_slice($argv, 1);
if (!$patterns) {
    fwrite(STDERR, "Usage: {$argv[0]} pattern...\n");
    exit(1);
}

$channel = connect()->channel();
$channel->exchange_declare('example.topic_logs', 'topic', durable: true, auto_delete: false);
[$queue] = $channel->queue_declare('', exclusive: true);
foreach ($patterns as $pattern) {
    $channel->queue_bind($queue, 'example.topic_logs', $pattern);
}
$on_line = function (AMQPMessage $message): void {
    echo "Received {$message->getRoutingKey()}: {$message->getBody()}\n";
};
$channel->basic_consume($queue, no_ack: true, callback: $on_line);
echo "Waiting for logs\n";
$channel->consume();
