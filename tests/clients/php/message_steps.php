<?php

/** Publishing, consuming, settling. */

declare(strict_types=1);

use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPAbstractCollection as Type;
use PhpAmqpLib\Wire\AMQPArray;
use PhpAmqpLib\Wire\AMQPDecimal;
use PhpAmqpLib\Wire\AMQPTable;

/** Every type that php-amqplib writes: it reads floating point numbers, but has no way to write them. */
function table_of_every_type(): AMQPTable
{
    $table = new AMQPTable();
    $table->set('bool', true);
    $table->set('string', 'Grüße');
    $table->set('bytes', "\x00\xff", Type::T_BYTES);
    $table->set('i8', -128, Type::T_INT_SHORTSHORT);
    $table->set('u8', 255, Type::T_INT_SHORTSHORT_U);
    $table->set('i16', -32768, Type::T_INT_SHORT);
    $table->set('u16', 65535, Type::T_INT_SHORT_U);
    $table->set('i32', -2147483648, Type::T_INT_LONG);
    $table->set('u32', 4294967295, Type::T_INT_LONG_U);
    $table->set('i64', PHP_INT_MIN, Type::T_INT_LONGLONG);
    $table->set('decimal', new AMQPDecimal(1234, 2));
    $table->set('timestamp', 1700000001, Type::T_TIMESTAMP);
    $table->set('void', null);
    $table->set('table', new AMQPTable(['inner' => new AMQPTable(['deep' => new AMQPArray([1, 'two', null])])]));
    $table->set('array', new AMQPArray([true, 2 ** 33, 'x', new AMQPArray([1]), new AMQPTable(['three' => 3])]));
    return $table;
}

/** Keys, types and values as one comparable text. */
function flatten(iterable $collection): string
{
    $lines = [];
    foreach ($collection as $key => [$type, $value]) {
        $text = match (true) {
            $value instanceof AMQPDecimal => "{$value->getN()}e-{$value->getE()}",
            $value instanceof DateTimeInterface => $value->format('U'),
            is_iterable($value) => '{' . flatten($value) . '}',
            default => bin2hex((string)$value),
        };
        $lines[] = "$key:$type=$text";
    }
    return implode("\n", $lines);
}

function properties(): void
{
    $sent = [
        'content_type' => 'text/plain',
        'content_encoding' => 'utf-8',
        'application_headers' => table_of_every_type(),
        'delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT,
        'priority' => 7,
        'correlation_id' => 'correlation',
        'reply_to' => 'reply.queue',
        'expiration' => '60000',
        'message_id' => 'message',
        'timestamp' => 1700000000,
        'type' => 'kind',
        'user_id' => 'guest',
        'app_id' => 'app',
        'cluster_id' => 'cluster',
    ];
    $connection = new_connection();
    $channel = $connection->channel();
    $queue = new_queue($channel, 'properties');
    publish($channel, '', $queue, 'body', $sent);
    $message = (new Inbox($channel, $queue, no_ack: true))->wait(1)[0];
    equal('body', 'body', $message->getBody());
    equal('exchange', '', $message->getExchange());
    equal('routing key', $queue, $message->getRoutingKey());
    equal('redelivered', false, $message->isRedelivered());
    foreach ($sent as $name => $value) {
        if ($value instanceof AMQPTable) {
            equal($name, flatten($value), flatten($message->get($name)));
        } else {
            equal($name, $value, $message->get($name));
        }
    }
    $connection->close();
}

function acknowledgements(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $queue = new_queue($channel, 'acks');
    publish_numbered($channel, $queue, 5);
    $inbox = new Inbox($channel, $queue);
    $messages = $inbox->wait(5);
    $channel->basic_cancel($inbox->tag);
    $tags = array_map(fn (AMQPMessage $message) => $message->getDeliveryTag(), $messages);
    equal('delivery tags', [1, 2, 3, 4, 5], $tags);

    $messages[1]->nack(requeue: true);
    $messages[2]->reject(requeue: false);
    $again = $channel->basic_get($queue);
    equal('the requeued one', '2', $again->getBody());
    equal('redelivered', true, $again->isRedelivered());
    $messages[0]->ack();
    // 4, 5 and the second delivery of 2.
    $again->ack(multiple: true);
    equal('all are settled', [], get_all($channel, $queue));

    publish_numbered($channel, $queue, 4);
    $channel->basic_get($queue);
    $channel->basic_get($queue)->nack(requeue: true, multiple: true);
    equal('order after a requeue', ['1', '2', '3', '4'], get_all($channel, $queue));
    $connection->close();
}

function prefetch(): void
{
    foreach ([1, 3] as $limit) {
        $connection = new_connection();
        $channel = $connection->channel();
        $queue = new_queue($channel, 'prefetch');
        publish_numbered($channel, $queue, 6);
        $channel->basic_qos(0, $limit, false);
        $inbox = new Inbox($channel, $queue);
        for ($handed_out = $limit; $handed_out <= 6; $handed_out++) {
            $inbox->wait($handed_out);
            // A round trip: what the broker would have sent too much is here by then.
            equal("ready with prefetch $limit", 6 - $handed_out, ready($channel, $queue));
            equal('delivered', $handed_out, count($inbox->messages));
            $inbox->messages[$handed_out - $limit]->ack();
        }
        equal('in order', ['1', '2', '3', '4', '5', '6'], $inbox->bodies());
        $connection->close();
    }
}

function confirms(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $confirmed = [];
    $channel->set_ack_handler(function (AMQPMessage $message) use (&$confirmed) {
        $confirmed[] = (int)$message->getBody();
    });
    $channel->set_nack_handler(fn () => throw new StepFailed('a message was refused'));
    $channel->confirm_select();
    $queue = durable_queue($channel, 'confirms');
    $properties = ['delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT];

    publish($channel, '', $queue, '1', $properties);
    $channel->wait_for_pending_acks(WAIT_SECONDS);
    equal('confirmed alone', [1], $confirmed);

    for ($number = 2; $number <= 1001; $number++) {
        publish($channel, '', $queue, (string)$number, $properties);
    }
    $channel->wait_for_pending_acks(WAIT_SECONDS);
    sort($confirmed);
    equal('every message is confirmed once', range(1, 1001), $confirmed);
    equal('messages in the queue', 1001, ready($channel, $queue));
    $channel->queue_delete($queue);
    $connection->close();
}

function mandatory_return(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $events = [];
    $channel->set_return_listener(function (int $code, string $text, $exchange, $key, AMQPMessage $message) use (&$events) {
        $events[] = "returned $code $text $key {$message->getBody()}";
    });
    $channel->set_ack_handler(function () use (&$events) {
        $events[] = 'confirmed';
    });
    $channel->confirm_select();
    $nowhere = unique('nowhere');
    $channel->basic_publish(new AMQPMessage('lost'), '', $nowhere, true);
    $channel->wait_for_pending_acks_returns(WAIT_SECONDS);
    equal('the return comes first', ["returned 312 NO_ROUTE $nowhere lost", 'confirmed'], $events);
    $connection->close();
}

function transactions(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $queue = new_queue($channel, 'tx');
    $channel->tx_select();
    publish($channel, '', $queue, 'rolled back');
    $channel->tx_rollback();
    publish($channel, '', $queue, 'committed');
    equal('ready before the commit', 0, ready($channel, $queue));
    $channel->tx_commit();
    equal('ready after the commit', 1, ready($channel, $queue));

    $tag = $channel->basic_get($queue)->getDeliveryTag();
    $channel->basic_ack($tag);
    $channel->tx_rollback();
    // The ack was rolled back: it can be given again.
    $channel->basic_ack($tag);
    $channel->tx_commit();
    equal('settled', [], get_all($channel, $queue));
    $connection->close();
}

function get(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $queue = new_queue($channel, 'get');
    equal('empty', null, $channel->basic_get($queue));
    publish_numbered($channel, $queue, 3);
    foreach ([2, 1, 0] as $left) {
        $message = $channel->basic_get($queue, true);
        equal('body', (string)(3 - $left), $message->getBody());
        equal('message count', $left, $message->getMessageCount());
    }
    $connection->close();
}

function rpc_direct_reply_to(): void
{
    [$client, $server] = [new_connection(), new_connection()];
    [$requests, $served] = [$client->channel(), $server->channel()];
    $queue = durable_queue($served, 'rpc');
    $inbox = new Inbox($requests, 'amq.rabbitmq.reply-to', no_ack: true);
    $request = ['reply_to' => 'amq.rabbitmq.reply-to', 'correlation_id' => '42'];
    publish($requests, '', $queue, 'hello', $request);

    $asked = (new Inbox($served, $queue))->wait(1)[0];
    $reply_to = $asked->get('reply_to');
    ensure("a rewritten reply-to, got $reply_to", str_starts_with($reply_to, 'amq.rabbitmq.reply-to.'));
    $answer = ['correlation_id' => $asked->get('correlation_id')];
    publish($served, '', $reply_to, strtoupper($asked->getBody()), $answer);
    $asked->ack();

    $reply = $inbox->wait(1)[0];
    equal('reply', ['HELLO', '42'], [$reply->getBody(), $reply->get('correlation_id')]);
    $served->queue_delete($queue);
    $server->close();
    $client->close();
}

function large_body(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $queue = new_queue($channel, 'large');
    $body = random_bytes(5 * 1024 * 1024);
    publish($channel, '', $queue, $body);
    $message = (new Inbox($channel, $queue, no_ack: true))->wait(1)[0];
    ensure('5 MiB come back unchanged', $message->getBody() === $body);
    $connection->close();
}

function recover(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $queue = new_queue($channel, 'recover');
    publish_numbered($channel, $queue, 2);
    $inbox = new Inbox($channel, $queue);
    $inbox->wait(2);
    $channel->basic_recover(true);
    $inbox->wait(4);
    equal('bodies', ['1', '2', '1', '2'], $inbox->bodies());
    $redelivered = array_map(fn (AMQPMessage $message) => $message->isRedelivered(), $inbox->messages);
    equal('redelivered', [false, false, true, true], $redelivered);
    $connection->close();
}
