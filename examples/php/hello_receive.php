<?php

/** Hello: prints the messages of a queue as they come. */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

$channel = connect()->channel();
$channel->queue_declare('example.hello', durable: true, auto_delete: false);
$on_message = function (AMQPMessage $message): void {
    echo "Received {$message->getBody()}\n";
};
$channel->basic_consume('example.hello', no_ack: true, callback: $on_message);
echo "Waiting for messages\n";
$channel->consume();
