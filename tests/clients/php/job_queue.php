<?php

/**
 * A job queue in the manner of Laravel's RabbitMQ driver: jobs are JSON, attempts are counted in a header, a delay is
 * a queue with TTL that expires itself, and jobs that failed for good go to a queue of their own by dead letter.
 */

declare(strict_types=1);

use PhpAmqpLib\Channel\AMQPChannel;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

final class JobQueue
{
    /** An unused queue goes after this time, should a run not come to its end. */
    private const EXPIRES_MS = 60_000;

    public function __construct(public readonly AMQPChannel $channel, public readonly string $name)
    {
    }

    public function failed(): string
    {
        return "$this->name.failed";
    }

    /** The queue in which jobs of this delay wait. */
    public function delayed(int $milliseconds): string
    {
        return "$this->name.delay.$milliseconds";
    }

    public function declare(): void
    {
        $this->declareQueue($this->failed(), []);
        $this->declareQueue($this->name, [
            'x-max-priority' => 10,
            'x-dead-letter-exchange' => '',
            'x-dead-letter-routing-key' => $this->failed(),
        ]);
    }

    private function declareQueue(string $queue, array $arguments): void
    {
        $arguments += ['x-expires' => self::EXPIRES_MS];
        $this->channel->queue_declare($queue, false, true, false, false, false, new AMQPTable($arguments));
    }

    public function push(string $job, array $data = [], int $priority = 0, int $maxTries = 3): void
    {
        $payload = $this->payload($job, $data, $maxTries);
        $this->channel->basic_publish($this->message($payload, 0, $priority), '', $this->name);
    }

    /** @param array<int, array> $batch data of each job */
    public function bulk(string $job, array $batch): void
    {
        foreach ($batch as $data) {
            $this->channel->batch_basic_publish($this->message($this->payload($job, $data, 3), 0, 0), '', $this->name);
        }
        $this->channel->publish_batch();
    }

    public function later(int $milliseconds, string $job, array $data = [], int $maxTries = 3): void
    {
        $this->laterRaw($milliseconds, $this->payload($job, $data, $maxTries), 0);
    }

    public function laterRaw(int $milliseconds, string $payload, int $attempts): void
    {
        $delayed = $this->delayed($milliseconds);
        $this->declareQueue($delayed, [
            'x-dead-letter-exchange' => '',
            'x-dead-letter-routing-key' => $this->name,
            'x-message-ttl' => $milliseconds,
            'x-expires' => $milliseconds * 2,
        ]);
        $this->channel->basic_publish($this->message($payload, $attempts, 0), '', $delayed);
    }

    public function size(): int
    {
        return $this->channel->queue_declare($this->name, true)[1];
    }

    public function clear(): int
    {
        return $this->channel->queue_purge($this->name);
    }

    public function delete(): void
    {
        $this->channel->queue_delete($this->name);
        $this->channel->queue_delete($this->failed());
    }

    private function payload(string $job, array $data, int $maxTries): string
    {
        $id = bin2hex(random_bytes(16));
        return json_encode(['uuid' => $id, 'job' => $job, 'maxTries' => $maxTries, 'data' => $data, 'id' => $id]);
    }

    private function message(string $payload, int $attempts, int $priority): AMQPMessage
    {
        return new AMQPMessage($payload, [
            'content_type' => 'application/json',
            'delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT,
            'correlation_id' => json_decode($payload, true)['id'],
            'priority' => $priority,
            'application_headers' => new AMQPTable(['laravel' => ['attempts' => $attempts]]),
        ]);
    }
}

/** One delivery of a job. */
final class Job
{
    public readonly array $payload;

    public function __construct(private readonly JobQueue $queue, public readonly AMQPMessage $message)
    {
        $this->payload = json_decode($message->getBody(), true, flags: JSON_THROW_ON_ERROR);
    }

    /** This one counted. */
    public function attempts(): int
    {
        $headers = $this->message->get('application_headers')->getNativeData();
        return $headers['laravel']['attempts'] + 1;
    }

    public function delete(): void
    {
        $this->message->ack();
    }

    /** Back into the queue after a while; the copy is safe before this one is given up. */
    public function release(int $milliseconds): void
    {
        $this->queue->laterRaw($milliseconds, $this->message->getBody(), $this->attempts());
        $this->queue->channel->wait_for_pending_acks(WAIT_SECONDS);
        $this->message->ack();
    }

    public function fail(): void
    {
        $this->message->reject(false);
    }
}
