<?php

/** A worker process: `queue_worker.php QUEUE RESULTS COUNT` works on COUNT jobs and tells RESULTS of each attempt. */

declare(strict_types=1);

require __DIR__ . '/support.php';
require __DIR__ . '/job_queue.php';

use PhpAmqpLib\Message\AMQPMessage;

/** Milliseconds before the second attempt and before the third. */
const BACKOFF_MS = [200, 400];

[, $name, $results, $count] = $argv;

$channel = new_connection()->channel();
$channel->confirm_select();
$queue = new JobQueue($channel, $name);

$report = function (Job $job, string $what) use ($channel, $results): void {
    $told = ['what' => $what, 'data' => $job->payload['data'], 'attempts' => $job->attempts(),
        'redelivered' => $job->message->isRedelivered(), 'at' => microtime(true)];
    $channel->basic_publish(new AMQPMessage(json_encode($told)), '', $results);
    $channel->wait_for_pending_acks(WAIT_SECONDS);
};

$work = function (AMQPMessage $message) use ($queue, $report): void {
    $job = new Job($queue, $message);
    $tries = $job->attempts();
    switch ($job->payload['job']) {
        case 'greet':
            $report($job, 'done');
            $job->delete();
            break;
        case 'fail':
            $report($job, 'failed');
            $tries < $job->payload['maxTries'] ? $job->release(BACKOFF_MS[$tries - 1]) : $job->fail();
            break;
        case 'hang':
            $report($job, 'hanging');
            if (!$message->isRedelivered()) {
                // Until it is killed.
                sleep(60);
            }
            $job->delete();
            break;
        default:
            throw new LogicException("no such job: {$job->payload['job']}");
    }
};

$channel->basic_qos(0, 1, false);
$seen = 0;
$receive = function (AMQPMessage $message) use ($work, &$seen): void {
    $work($message);
    $seen++;
};
$tag = $channel->basic_consume($name, '', false, false, false, false, $receive);
while ($seen < $count) {
    $channel->wait(null, false, WAIT_SECONDS);
}
$channel->basic_cancel($tag);
$channel->close();
