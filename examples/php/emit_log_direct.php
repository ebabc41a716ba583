<?php

/**
 * Routing: sends a line to the receivers of its severity.
 *
 * Usage: emit_log_direct.php warning The disk is nearly full
 */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

$severity = $argv[1] ?? 'info';
$line = implode(' ', array_slice($argv, 2)) ?: 'Hello World!';
$connection = connect();
$channel = $connection->channel();
$channel->exchange_declare('example.direct_logs', 'direct', durable: true, auto_delete: false);
$channel->basic_publish(new AMQPMessage($line), 'example.direct_logs', $severity);
echo "Sent $severity: $line\n";
$connection->close();
