<?php

/** What every step needs: a connection to the broker under test, unique names, checks that explain themselves. */

declare(strict_types=1);

require_once 'PhpAmqpLib/autoload.php';

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Connection\AbstractConnection;
use PhpAmqpLib\Connection\AMQPConnectionConfig;
use PhpAmqpLib\Connection\AMQPConnectionFactory;
use PhpAmqpLib\Message\AMQPMessage;

const WAIT_SECONDS = 10.0;

final class StepFailed extends Exception
{
}

function config(): AMQPConnectionConfig
{
    $uri = parse_url(getenv('AMQP_URI'));
    $config = new AMQPConnectionConfig();
    $config->setHost($uri['host']);
    $config->setPort($uri['port']);
    $config->setUser($uri['user']);
    $config->setPassword($uri['pass']);
    $config->setVhost(rawurldecode(substr($uri['path'], 1)));
    $config->setReadTimeout(WAIT_SECONDS);
    return $config;
}

function new_connection(?AMQPConnectionConfig $config = null): AbstractConnection
{
    return AMQPConnectionFactory::create($config ?? config());
}

function unique(string $name): string
{
    return "php.$name." . bin2hex(random_bytes(6));
}

function equal(string $what, mixed $expected, mixed $actual): void
{
    if ($expected !== $actual) {
        throw new StepFailed(sprintf('%s: expected %s, got %s', $what, json_encode($expected), json_encode($actual)));
    }
}

function ensure(string $what, bool $condition): void
{
    if (!$condition) {
        throw new StepFailed("expected: $what");
    }
}

/**
 * @template T of Throwable
 * @param class-string<T> $class
 * @return T
 */
function raises(string $what, string $class, callable $action): Throwable
{
    try {
        $action();
    } catch (Throwable $error) {
        ensure("$class from $what, got " . get_class($error), $error instanceof $class);
        return $error;
    }
    throw new StepFailed("$what: expected $class, nothing was thrown");
}

/** A queue of this connection's own; it goes with the connection. */
function new_queue(AMQPChannel $channel, string $name): string
{
    return $channel->queue_declare(unique($name), false, false, true, false)[0];
}

function durable_queue(AMQPChannel $channel, string $name): string
{
    return $channel->queue_declare(unique($name), false, true, false, false)[0];
}

/** Ready messages. */
function ready(AMQPChannel $channel, string $queue): int
{
    return $channel->queue_declare($queue, true)[1];
}

function publish(AMQPChannel $channel, string $exchange, string $key, string $body, array $properties = []): void
{
    $channel->basic_publish(new AMQPMessage($body, $properties), $exchange, $key);
}

function publish_numbered(AMQPChannel $channel, string $queue, int $count): void
{
    for ($number = 1; $number <= $count; $number++) {
        publish($channel, '', $queue, (string)$number);
    }
}

/** @return string[] */
function get_all(AMQPChannel $channel, string $queue): array
{
    $bodies = [];
    while ($message = $channel->basic_get($queue, true)) {
        $bodies[] = $message->getBody();
    }
    return $bodies;
}

/** A consumer that keeps what it gets. */
final class Inbox
{
    /** @var AMQPMessage[] */
    public array $messages = [];
    public readonly string $tag;

    public function __construct(
        private readonly AMQPChannel $channel,
        string $queue,
        string $tag = '',
        bool $no_ack = false,
        bool $exclusive = false,
    ) {
        $this->tag = $channel->basic_consume($queue, $tag, false, $no_ack, $exclusive, false, $this->receive(...));
    }

    public function receive(AMQPMessage $message): void
    {
        $this->messages[] = $message;
    }

    /** @return AMQPMessage[] */
    public function wait(int $count): array
    {
        while (count($this->messages) < $count) {
            $this->channel->wait(null, false, WAIT_SECONDS);
        }
        return $this->messages;
    }

    /** @return string[] */
    public function bodies(): array
    {
        return array_map(fn (AMQPMessage $message) => $message->getBody(), $this->messages);
    }
}
