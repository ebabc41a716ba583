<?php

/** A job queue's whole story with the broker that AMQP_URI names; all steps are tried. */

declare(strict_types=1);

require __DIR__ . '/support.php';
require __DIR__ . '/job_queue.php';
require __DIR__ . '/queue_steps.php';

const STEPS = [
    'push_and_work',
    'priorities_of_jobs',
    'later_in_a_queue_that_goes',
    'release_with_backoff',
    'failed_jobs',
    'killed_worker',
    'bulk_size_and_clear',
];

$failed = [];
foreach (STEPS as $step) {
    try {
        $step();
        echo "ok $step\n";
    } catch (Throwable $error) {
        $failed[] = $step;
        fwrite(STDERR, "failed $step\n$error\n");
    }
}
exit($failed ? 1 : 0);
