<?php

/** Connecting, declaring, binding and routing. */

declare(strict_types=1);

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AMQPConnectionConfig;
use PhpAmqpLib\Exception\AMQPConnectionClosedException;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Exception\AMQPTimeoutException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

const CAPABILITIES = [
    'publisher_confirms', 'exchange_exchange_bindings', 'basic.nack', 'consumer_cancel_notify', 'connection.blocked',
    'consumer_priorities', 'authentication_failure_close', 'per_consumer_qos', 'direct_reply_to',
];

function connect(): void
{
    foreach ([AMQPConnectionConfig::AUTH_PLAIN, AMQPConnectionConfig::AUTH_AMQPPLAIN] as $mechanism) {
        $config = config();
        $config->setLoginMethod($mechanism);
        $connection = new_connection($config);
        // Each value is a pair: its type and itself.
        $server = $connection->getServerProperties();
        equal('product', 'RabbitMQ', $server['product'][1]);
        ensure('a version such as 4.2.0', substr_count($server['version'][1], '.') === 2);
        foreach (CAPABILITIES as $capability) {
            equal("capability $capability", true, (bool)($server['capabilities'][1][$capability] ?? false));
        }
        $connection->close();
    }
}

function declare_exchanges(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    foreach (['direct', 'fanout', 'topic', 'headers'] as $type) {
        $name = unique($type);
        $channel->exchange_declare($name, $type, false, true, false);
        // Declaring the same again is fine.
        $channel->exchange_declare($name, $type, false, true, false);
        $channel->exchange_declare($name, $type, true);
        $channel->exchange_delete($name);
        $channel->exchange_declare("amq.$type", $type, false, true, false);
    }
    $connection->close();
}

function declare_queues(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $named = unique('named');
    equal('named, durable', [$named, 0, 0], $channel->queue_declare($named, false, true, false, false));
    $channel->queue_delete($named);

    [$generated] = $channel->queue_declare('', false, false, true, false);
    ensure("a name that starts with amq.gen-, got $generated", str_starts_with($generated, 'amq.gen-'));

    $exclusive = new_queue($channel, 'exclusive');
    $other = new_connection();
    $closed = raises(
        "another connection's exclusive queue",
        AMQPProtocolChannelException::class,
        fn () => $other->channel()->queue_declare($exclusive, true),
    );
    equal('code', 405, $closed->getCode());
    $text = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '$exclusive' in vhost '/'";
    ensure("$text, got {$closed->getMessage()}", str_starts_with($closed->getMessage(), $text));
    $other->close();

    [$auto_delete] = $channel->queue_declare(unique('auto'), false, true, false, true);
    $channel->basic_cancel((new Inbox($channel, $auto_delete))->tag);
    $closed = raises(
        'an auto-delete queue after its last consumer',
        AMQPProtocolChannelException::class,
        fn () => $channel->queue_declare($auto_delete, true),
    );
    equal('code', 404, $closed->getCode());
    $connection->close();
}

function bind_and_route(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    route_by_key($channel);
    route_by_headers($channel);
    route_between_exchanges($channel);
    $connection->close();
}

function route_by_key(AMQPChannel $channel): void
{
    $queue = new_queue($channel, 'routed');
    $cases = [
        ['direct', 'key', ['key'], ['Key', 'key.x', '']],
        ['topic', 'a.*.c', ['a.b.c', 'a..c'], ['a.c', 'a.b.b.c', 'b.b.c']],
        ['topic', 'a.#', ['a', 'a.b', 'a.b.c'], ['ab', 'b.a']],
        ['topic', '#.z', ['z', 'x.y.z'], ['z.a']],
        ['fanout', 'ignored', ['anything', ''], []],
    ];
    foreach ($cases as [$type, $binding, $matching, $others]) {
        $exchange = unique($type);
        $channel->exchange_declare($exchange, $type, false, true, false);
        $channel->queue_bind($queue, $exchange, $binding);
        foreach ([...$matching, ...$others] as $key) {
            publish($channel, $exchange, $key, $key);
        }
        equal("$type with $binding", $matching, get_all($channel, $queue));
        $channel->queue_unbind($queue, $exchange, $binding);
        publish($channel, $exchange, $matching[0], 'unbound');
        equal("$type after unbind", [], get_all($channel, $queue));
        $channel->exchange_delete($exchange);
    }
}

function route_by_headers(AMQPChannel $channel): void
{
    $exchange = unique('headers');
    $channel->exchange_declare($exchange, 'headers', false, true, false);
    foreach (['all' => ['both'], 'any' => ['both', 'colour only']] as $match => $expected) {
        $queue = new_queue($channel, $match);
        $arguments = new AMQPTable(['x-match' => $match, 'colour' => 'red', 'size' => 3]);
        $channel->queue_bind($queue, $exchange, '', false, $arguments);
        $tables = [
            'both' => ['colour' => 'red', 'size' => 3, 'more' => true],
            'colour only' => ['colour' => 'red', 'size' => 4],
            'none' => ['colour' => 'blue'],
        ];
        foreach ($tables as $body => $table) {
            publish($channel, $exchange, '', $body, ['application_headers' => new AMQPTable($table)]);
        }
        equal("x-match $match", $expected, get_all($channel, $queue));
    }
    $channel->exchange_delete($exchange);
}

function route_between_exchanges(AMQPChannel $channel): void
{
    [$source, $destination, $queue] = [unique('source'), unique('destination'), new_queue($channel, 'e2e')];
    $channel->exchange_declare($source, 'topic', false, true, false);
    $channel->exchange_declare($destination, 'fanout', false, true, false);
    $channel->exchange_bind($destination, $source, 'a.#');
    $channel->queue_bind($queue, $destination);
    publish($channel, $source, 'a.b', 'through two');
    publish($channel, $source, 'b', 'lost');
    equal('exchange to exchange', ['through two'], get_all($channel, $queue));
    $channel->exchange_unbind($destination, $source, 'a.#');
    publish($channel, $source, 'a.b', 'lost');
    equal('after unbind', [], get_all($channel, $queue));
    $channel->exchange_delete($source);
    $channel->exchange_delete($destination);
}

function wrong_password(): void
{
    foreach ([AMQPConnectionConfig::AUTH_PLAIN, AMQPConnectionConfig::AUTH_AMQPPLAIN] as $mechanism) {
        $config = config();
        $config->setLoginMethod($mechanism);
        $config->setPassword('wrong');
        $refused = raises('a wrong password', AMQPConnectionClosedException::class, fn () => new_connection($config));
        equal('code', 403, $refused->getCode());
        $text = "ACCESS_REFUSED - Login was refused using authentication mechanism $mechanism. "
            . 'For details see the broker logfile.';
        // The library adds the class and method ids.
        equal('text', "$text(0, 0)", $refused->getMessage());
    }
}

function heartbeats(): void
{
    $config = config();
    $config->setHeartbeat(1);
    $connection = new_connection($config);
    $channel = $connection->channel();
    $queue = new_queue($channel, 'heartbeat');
    $until = microtime(true) + 3.5;
    while (microtime(true) < $until) {
        try {
            $channel->wait(null, false, 0.25);
        } catch (AMQPTimeoutException) {
            $connection->checkHeartBeat();
        }
    }
    publish($channel, '', $queue, 'alive');
    equal('after three idle intervals', ['alive'], get_all($channel, $queue));
    $connection->close();
}

function alternate_exchange(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    [$alternate, $main] = [unique('alternate'), unique('main')];
    [$unrouted, $routed] = [new_queue($channel, 'unrouted'), new_queue($channel, 'routed')];
    $channel->exchange_declare($alternate, 'fanout', false, true, false);
    $arguments = new AMQPTable(['alternate-exchange' => $alternate]);
    $channel->exchange_declare($main, 'direct', false, true, false, false, false, $arguments);
    $channel->queue_bind($unrouted, $alternate);
    $channel->queue_bind($routed, $main, 'known');
    publish($channel, $main, 'known', 'known');
    publish($channel, $main, 'unknown', 'unknown');
    equal('routed', ['known'], get_all($channel, $routed));
    equal('took the alternate exchange', ['unknown'], get_all($channel, $unrouted));
    $channel->exchange_delete($main);
    $channel->exchange_delete($alternate);
    $connection->close();
}

function cc_header(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    [$to, $copy, $blind] = array_map(fn (string $name) => new_queue($channel, $name), ['to', 'cc', 'bcc']);
    $headers = new AMQPTable(['CC' => [$copy], 'BCC' => [$blind]]);
    publish($channel, '', $to, 'letter', ['application_headers' => $headers]);
    foreach ([$to, $copy, $blind] as $queue) {
        $message = $channel->basic_get($queue, true);
        ensure("a message in $queue", $message instanceof AMQPMessage);
        equal('headers, BCC taken out', ['CC' => [$copy]], $message->get('application_headers')->getNativeData());
    }
    $connection->close();
}

function purge(): void
{
    $connection = new_connection();
    $channel = $connection->channel();
    $queue = new_queue($channel, 'purge');
    publish_numbered($channel, $queue, 3);
    equal('purged', 3, $channel->queue_purge($queue));
    equal('left', [], get_all($channel, $queue));
    $connection->close();
}
