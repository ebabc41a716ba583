<?php

/**
 * RPC: asks for a Fibonacci number and waits for the reply, without a reply queue (direct reply-to).
 *
 * Usage: rpc_client.php 30
 */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

const REPLY_TO = 'amq.rabbitmq.reply-to';
const TIMEOUT_SECONDS = 10;

$n = (int)($argv[1] ?? 30);
$correlation_id = bin2hex(random_bytes(16));
$reply = null;
$on_reply = function (AMQPMessage $message) use (&$reply, $correlation_id): void {
    if ($message->get('correlation_id') === $correlation_id) {
        $reply = $message->getBody();
    }
};

$connection = connect();
$channel = $connection->channel();
// Replies come to the channel that asks, so it consumes before it publishes.
$channel->basic_consume(REPLY_TO, no_ack: true, callback: $on_reply);
$request = new AMQPMessage((string)$n, ['reply_to' => REPLY_TO, 'correlation_id' => $correlation_id]);
$channel->basic_publish($request, '', 'example.rpc');
while ($reply === null) {
    // Throws an AMQPTimeoutException when nothing comes.
    $channel->wait(null, false, TIMEOUT_SECONDS);
}
echo "fib($n) = $reply\n";
$connection->close();
