<?php

/**
 * Topics: sends a line under a key of words, such as kern.critical.
 *
 * Usage: emit_log_topic.php kern.critical The disk is full
 */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

$key = $argv[1] ?? 'anonymous.info';
$line = implode(' ', array_slice($argv, 2)) ?: 'Hello World!';
$connection = connect();
$channel = $connection->channel();
$channel->exchange_declare('example.topic_logs', 'topic', durable: true, auto_delete: false);
$channel->basic_publish(new AMQPMessage($line), 'example.topic_logs', $key);
echo "Sent $key: $line\n";
$connection->close();
