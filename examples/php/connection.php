<?php

/**
 * Where the examples find the broker: localhost:5672, or what AMQP_URI says.
 * Uses php-amqplib as the system packages install it, or as Composer does.
 */

declare(strict_types=1);

require_once is_file(__DIR__ . '/vendor/autoload.php') ? __DIR__ . '/vendor/autoload.php' : 'PhpAmqpLib/autoload.php';

use PhpAmqpLib\Connection\AMQPStreamConnection;

function connect(): AMQPStreamConnection
{
    $uri = parse_url(getenv('AMQP_URI') ?: 'amqp://guest:guest@localhost:5672/%2F');
    return new AMQPStreamConnection(
        $uri['host'],
        $uri['port'] ?? 5672,
        rawurldecode($uri['user'] ?? 'guest'),
        rawurldecode($uri['pass'] ?? 'guest'),
        rawurldecode(substr($uri['path'] ?? '/%2F', 1)),
    );
}
