<?php

/** Work queue: does one task at a time. A task whose worker dies before it is done goes to another one. */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

$channel = connect()->channel();
$channel->queue_declare('example.tasks', durable: true, auto_delete: false);
$channel->basic_qos(0, 1, false);
$on_task = function (AMQPMessage $message): void {
    $task = $message->getBody();
    echo "Received $task\n";
    sleep(substr_count($task, '.'));
    $message->ack();
    echo "Done $task\n";
};
$channel->basic_consume('example.tasks', callback: $on_task);
echo "Waiting for tasks\n";
$channel->consume();
