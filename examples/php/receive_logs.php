<?php

/** Publish/subscribe: every receiver has a queue of its own, which goes when it goes. */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

$channel = connect()->channel();
$channel->exchange_declare('example.logs', 'fanout', durable: true, auto_delete: false);
[$queue] = $channel->queue_declare('', exclusive: true);
$channel->queue_bind($queue, 'example.logs');
$on_line = function (AMQPMessage $message): void {
    echo "Received {$message->getBody()}\n";
};
$channel->basic_consume($queue, no_ack: true, callback: $on_line);
echo "Waiting for logs\n";
$channel->consume();
