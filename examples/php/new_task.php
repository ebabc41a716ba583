<?php

/**
 * Work queue: adds a task that survives a restart of the broker. Each dot in it is a second of work.
 *
 * Usage: new_task.php First task...
 */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

$task = implode(' ', array_slice($argv, 1)) ?: 'Hello...';
$connection = connect();
$channel = $connection->channel();
$channel->confirm_select();
$channel->queue_declare('example.tasks', durable: true, auto_delete: false);
$message = new AMQPMessage($task, ['delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT]);
$channel->basic_publish($message, '', 'example.tasks');
// The task is on disk once it is confirmed.
$channel->wait_for_pending_acks(10);
echo "Sent $task\n";
$connection->close();
