package story;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.TimeUnit;

/** What a step expects. */
final class Checks {
    private Checks() {}

    static void expect(boolean truth, String what) {
        if (!truth) {
            throw new AssertionError("expected " + what);
        }
    }

    static void equal(String what, Object got, Object want) {
        if (!Objects.deepEquals(got, want)) {
            throw new AssertionError(what + ": expected " + want + ", got " + got);
        }
    }

    /** Waits for what comes next. */
    static <T> T next(BlockingQueue<T> queue, String what) throws InterruptedException {
        var value = queue.poll(Story.PATIENCE_MS, TimeUnit.MILLISECONDS);
        expect(value != null, what + " in " + Story.PATIENCE_MS + " ms");
        return value;
    }

    /** Checks that the step closes its channel with this reply code and text. */
    static void refused(int code, String text, Story.Step step) throws Exception {
        try {
            step.run();
        } catch (IOException failure) {
            expect(failure.getCause() instanceof ShutdownSignalException, "a shutdown signal, got " + failure);
            closedWith(code, text, (ShutdownSignalException) failure.getCause());
            return;
        }
        throw new AssertionError("expected " + text);
    }

    static void closedWith(int code, String text, ShutdownSignalException signal) {
        expect(signal.getReason() instanceof AMQP.Channel.Close, "channel.close, got " + signal);
        var close = (AMQP.Channel.Close) signal.getReason();
        equal("reply code", close.getReplyCode(), code);
        equal("reply text", close.getReplyText(), text);
    }
}
