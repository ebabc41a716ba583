<?php

/** What goes wrong, and what the client is told. */

declare(strict_types=1);

use PhpAmqpLib\Exception\AMQPBasicCancelException;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;

function refused(int $code, string $text, callable $action): void
{
    $closed = raises($text, AMQPProtocolChannelException::class, $action);
    equal('reply code and text', [$code, $text], [$closed->getCode(), $closed->getMessage()]);
}

function server_sent_cancel(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $queue = durable_queue($channel, 'cancel');
    $inbox = new Inbox($channel, $queue);
    $connection->channel()->queue_delete($queue);
    $cancelled = raises('basic.cancel', AMQPBasicCancelException::class, fn () => $inbox->wait(1));
    equal('cancelled', $inbox->tag, $cancelled->consumerTag);
    ensure('the channel is open', $channel->is_open());
    $connection->close();
}

function channel_errors(): void
{
    $connection = new_connection();
    $missing = unique('missing');
    refused(
        404,
        "NOT_FOUND - no queue '$missing' in vhost '/'",
        fn () => $connection->channel()->queue_declare($missing, true),
    );
    refused(
        404,
        "NOT_FOUND - no exchange '$missing' in vhost '/'",
        fn () => $connection->channel()->exchange_declare($missing, 'direct', true),
    );
    $durable = durable_queue($connection->channel(), 'durable');
    refused(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '$durable' in vhost '/': "
            . "received 'false' but current is 'true'",
        fn () => $connection->channel()->queue_declare($durable, false, false, false, false),
    );
    $channel = $connection->channel();
    $channel->queue_delete($durable);
    $queue = new_queue($channel, 'survives');
    publish($channel, '', $queue, 'still here');
    equal('the connection goes on', ['still here'], get_all($channel, $queue));
    $connection->close();
}

function consumer_tags(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $queue = new_queue($channel, 'tags');
    $own = new Inbox($channel, $queue, 'my-tag', no_ack: true);
    equal('own tag', 'my-tag', $own->tag);
    publish($channel, '', $queue, 'x');
    equal('tag in the delivery', 'my-tag', $own->wait(1)[0]->getConsumerTag());

    $made = new Inbox($channel, $queue, no_ack: true);
    ensure("a tag that starts with amq.ctag-, got {$made->tag}", str_starts_with($made->tag, 'amq.ctag-'));
    equal('consumers', 2, $channel->queue_declare($queue, true)[2]);
    $channel->basic_cancel($own->tag);
    publish($channel, '', $queue, 'y');
    equal('tag in the delivery', $made->tag, $made->wait(1)[0]->getConsumerTag());
    equal('only the one left gets it', [['x'], ['y']], [$own->bodies(), $made->bodies()]);
    $connection->close();
}

function delete_conditions(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $queue = durable_queue($channel, 'delete');
    $exchange = unique('delete');
    $channel->exchange_declare($exchange, 'fanout', false, true, false);
    $channel->queue_bind($queue, $exchange);
    publish($channel, '', $queue, 'x');
    // Channels are not ordered among each other: the message is there before another one asks.
    $channel->queue_declare($queue, true);
    refused(
        406,
        "PRECONDITION_FAILED - queue '$queue' in vhost '/' not empty",
        fn () => $connection->channel()->queue_delete($queue, if_empty: true),
    );
    new Inbox($channel, $queue);
    refused(
        406,
        "PRECONDITION_FAILED - queue '$queue' in vhost '/' in use",
        fn () => $connection->channel()->queue_delete($queue, if_unused: true),
    );
    refused(
        406,
        "PRECONDITION_FAILED - exchange '$exchange' in vhost '/' in use",
        fn () => $connection->channel()->exchange_delete($exchange, true),
    );
    $last = $connection->channel();
    $last->queue_delete($queue);
    $last->exchange_delete($exchange, true);
    $connection->close();
}

function exclusive_consumer(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $queue = durable_queue($channel, 'exclusive');
    new Inbox($channel, $queue, exclusive: true);
    refused(
        403,
        "ACCESS_REFUSED - queue '$queue' in vhost '/' in exclusive use",
        fn () => new Inbox($connection->channel(), $queue),
    );
    $connection->channel()->queue_delete($queue);
    $connection->close();
}
