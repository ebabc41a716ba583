<?php

/** The steps of a job queue's story; workers are processes of their own. */

declare(strict_types=1);

use PhpAmqpLib\Exception\AMQPProtocolChannelException;

/** A queue of jobs, the queue in which workers tell what they did, and the workers. */
final class Shop
{
    public readonly JobQueue $jobs;
    public readonly string $results;
    private readonly Inbox $inbox;
    /** @var resource[] */
    private array $workers = [];

    public function __construct()
    {
        $channel = new_connection()->channel();
        $channel->confirm_select();
        $this->jobs = new JobQueue($channel, unique('jobs'));
        $this->jobs->declare();
        // Results come by a channel of their own, so that confirms are not waited for among them.
        $told = new_connection()->channel();
        $this->results = new_queue($told, 'results');
        $this->inbox = new Inbox($told, $this->results, no_ack: true);
    }

    /** Until the broker has the jobs. */
    public function confirm(): void
    {
        $this->jobs->channel->wait_for_pending_acks(WAIT_SECONDS);
    }

    /** @return resource */
    public function hire(int $jobs)
    {
        $command = [PHP_BINARY, __DIR__ . '/queue_worker.php', $this->jobs->name, $this->results, (string)$jobs];
        $worker = proc_open($command, [1 => STDERR, 2 => STDERR], $pipes);
        $this->workers[] = $worker;
        return $worker;
    }

    /** What workers told, the first `count` of all. */
    public function told(int $count): array
    {
        $messages = array_slice($this->inbox->wait($count), 0, $count);
        return array_map(fn ($message) => json_decode($message->getBody(), true), $messages);
    }

    public function wait($worker): int
    {
        $deadline = microtime(true) + WAIT_SECONDS;
        while (($status = proc_get_status($worker))['running']) {
            ensure('the worker ends', microtime(true) < $deadline);
            usleep(10_000);
        }
        return $status['exitcode'];
    }

    public function close(): void
    {
        foreach ($this->workers as $worker) {
            proc_terminate($worker, 9);
        }
        $this->jobs->delete();
    }
}

function in_shop(callable $action): void
{
    $shop = new Shop();
    try {
        $action($shop);
    } finally {
        $shop->close();
    }
}

/** @return array{0: int, 1: bool} ready messages of a queue, and whether it is there */
function look(string $queue): array
{
    $connection = new_connection();
    try {
        return [ready($connection->channel(), $queue), true];
    } catch (AMQPProtocolChannelException $error) {
        equal('reply code for a missing queue', 404, $error->getCode());
        return [0, false];
    } finally {
        $connection->close();
    }
}

function push_and_work(): void
{
    in_shop(function (Shop $shop): void {
        foreach ([1, 2, 3] as $number) {
            $shop->jobs->push('greet', ['number' => $number]);
        }
        $worker = $shop->hire(3);
        $told = $shop->told(3);
        equal('order', [1, 2, 3], array_column(array_column($told, 'data'), 'number'));
        equal('attempts', [1, 1, 1], array_column($told, 'attempts'));
        equal('exit code of the worker', 0, $shop->wait($worker));
        equal('jobs left', 0, $shop->jobs->size());
    });
}

function priorities_of_jobs(): void
{
    in_shop(function (Shop $shop): void {
        foreach ([0, 5, 10, 1, 5] as $number => $priority) {
            $shop->jobs->push('greet', ['job' => "$priority.$number"], $priority);
        }
        $shop->confirm();
        $shop->hire(5);
        $order = array_column(array_column($shop->told(5), 'data'), 'job');
        equal('order: the higher first, equal ones as they came', ['10.2', '5.1', '5.4', '1.3', '0.0'], $order);
    });
}

function later_in_a_queue_that_goes(): void
{
    in_shop(function (Shop $shop): void {
        $began = microtime(true);
        $shop->jobs->later(400, 'greet', ['who' => 'late']);
        $shop->jobs->push('greet', ['who' => 'now']);
        $shop->hire(2);
        [$now, $late] = $shop->told(2);
        equal('first', 'now', $now['data']['who']);
        equal('second', 'late', $late['data']['who']);
        ensure('not before its time', $late['at'] - $began >= 0.4);
        // The queue of the delay goes 800 ms after it was declared; each look at it would count as use.
        usleep(1_500_000);
        equal('the queue of the delay is there', [0, false], look($shop->jobs->delayed(400)));
    });
}

function release_with_backoff(): void
{
    in_shop(function (Shop $shop): void {
        $shop->jobs->push('fail', ['order' => 7]);
        $worker = $shop->hire(3);
        $told = $shop->told(3);
        equal('attempts', [1, 2, 3], array_column($told, 'attempts'));
        equal('data', [['order' => 7], ['order' => 7], ['order' => 7]], array_column($told, 'data'));
        ensure('the second one waited', $told[1]['at'] - $told[0]['at'] >= 0.2);
        ensure('the third one waited longer', $told[2]['at'] - $told[1]['at'] >= 0.4);
        equal('exit code of the worker', 0, $shop->wait($worker));
    });
}

function failed_jobs(): void
{
    in_shop(function (Shop $shop): void {
        $shop->jobs->push('fail', ['order' => 8], maxTries: 1);
        $shop->hire(1);
        $shop->told(1);
        $inbox = new Inbox($shop->jobs->channel, $shop->jobs->failed(), no_ack: true);
        [$failed] = $inbox->wait(1);
        equal('payload', ['order' => 8], json_decode($failed->getBody(), true)['data']);
        $headers = $failed->get('application_headers')->getNativeData();
        equal('attempts in the header', ['attempts' => 0], $headers['laravel']);
        $death = $headers['x-death'][0];
        equal('why', ['rejected', $shop->jobs->name, 1], [$death['reason'], $death['queue'], $death['count']]);
        equal('priority is kept', 0, $failed->get('priority'));
    });
}

function killed_worker(): void
{
    in_shop(function (Shop $shop): void {
        $shop->jobs->push('hang', ['held' => true]);
        $killed = $shop->hire(1);
        equal('the first worker', 'hanging', $shop->told(1)[0]['what']);
        proc_terminate($killed, 9);
        $shop->hire(1);
        [, $again] = $shop->told(2);
        equal('the second delivery is marked', true, $again['redelivered']);
        equal('attempts: nobody counted', 1, $again['attempts']);
    });
}

function bulk_size_and_clear(): void
{
    in_shop(function (Shop $shop): void {
        $shop->jobs->bulk('greet', array_map(fn ($number) => ['number' => $number], range(1, 50)));
        $shop->confirm();
        equal('size', 50, $shop->jobs->size());
        equal('cleared', 50, $shop->jobs->clear());
        equal('size after that', 0, $shop->jobs->size());
    });
}
