<?php

/**
 * Publish/subscribe: sends a line to every receiver that is there now.
 *
 * Usage: emit_log.php A line for all
 */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

$line = implode(' ', array_slice($argv, 1)) ?: 'info: Hello World!';
$connection = connect();
$channel = $connection->channel();
$channel->exchange_declare('example.logs', 'fanout', durable: true, auto_delete: false);
$channel->basic_publish(new AMQPMessage($line), 'example.logs');
echo "Sent $line\n";
$connection->close();
