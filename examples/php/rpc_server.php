<?php

/** RPC: answers requests for Fibonacci numbers to wherever each request wants its reply. */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

function fibonacci(int $n): int
{
    [$a, $b] = [0, 1];
    for ($i = 0; $i < $n; $i++) {
        [$a, $b] = [$b, $a + $b];
    }
    return $a;
}

$channel = connect()->channel();
$channel->queue_declare('example.rpc', durable: true, auto_delete: false);
$channel->basic_qos(0, 1, false);
$on_request = function (AMQPMessage $request): void {
    $n = (int)$request->getBody();
    echo "Computing fib($n)\n";
    $reply = new AMQPMessage((string)fibonacci($n), ['correlation_id' => $request->get('correlation_id')]);
    $request->getChannel()->basic_publish($reply, '', $request->get('reply_to'));
    $request->ack();
};
$channel->basic_consume('example.rpc', callback: $on_request);
echo "Waiting for requests\n";
$channel->consume();
