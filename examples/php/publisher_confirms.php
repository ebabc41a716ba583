<?php

/** Publisher confirms: a message is safe once the broker has confirmed it. Publishes first, then waits for all. */

declare(strict_types=1);

require __DIR__ . '/connection.php';

use PhpAmqpLib\Message\AMQPMessage;

const COUNT = 100;
const TIMEOUT_SECONDS = 10;

$connection = connect();
$channel = $connection->channel();
$confirmed = 0;
$channel->set_ack_handler(function () use (&$confirmed): void {
    $confirmed++;
});
$channel->set_nack_handler(function (AMQPMessage $message): void {
    fwrite(STDERR, "Message {$message->getBody()} was refused\n");
    exit(1);
});
$channel->confirm_select();
[$queue] = $channel->queue_declare('', exclusive: true);
for ($number = 0; $number < COUNT; $number++) {
    $message = new AMQPMessage((string)$number, ['delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT]);
    $channel->basic_publish($message, '', $queue);
}
$channel->wait_for_pending_acks(TIMEOUT_SECONDS);
echo "Confirmed $confirmed messages\n";
$connection->close();
