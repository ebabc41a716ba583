<?php

/** Hello: sends one message to a queue. */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

$connection = connect();
$channel = $connection->channel();
$channel->queue_declare('example.hello', durable: true, auto_delete: false);
$channel->basic_publish(new AMQPMessage('Hello World!'), '', 'example.hello');
echo "Sent Hello World!\n";
$connection->close();
