package story;

import static story.Checks.closedWith;
import static story.Checks.equal;
import static story.Checks.expect;
import static story.Checks.next;
import static story.Checks.refused;
import static story.Story.bytes;
import static story.Story.endOf;
import static story.Story.publishTexts;
import static story.Story.take;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.ShutdownSignalException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** What goes wrong, and what survives it. */
final class Failures {
    /** A shorter one would fail on a machine that is merely busy. */
    private static final int HEARTBEAT_SECONDS = 2;

    private final Story story;

    Failures(Story story) {
        this.story = story;
    }

    void channelErrors() throws Exception {
        var missing = story.name("missing");
        refused(AMQP.NOT_FOUND, "NOT_FOUND - no queue '" + missing + "' in vhost '/'",
                () -> story.channel().queueDeclarePassive(missing));

        var durable = story.name("durable");
        story.channel().queueDeclare(durable, true, false, false, null);
        refused(AMQP.PRECONDITION_FAILED,
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '" + durable + "' in vhost '/': "
                        + "received 'false' but current is 'true'",
                () -> story.channel().queueDeclare(durable, false, false, false, null));

        // An error of a publish comes later, on its own.
        var channel = story.channel();
        var ends = endOf(channel);
        channel.basicPublish(missing, "", null, bytes("nowhere"));
        closedWith(AMQP.NOT_FOUND, "NOT_FOUND - no exchange '" + missing + "' in vhost '/'",
                next(ends, "the channel's end"));

        expect(story.connection.isOpen(), "the connection to survive");
        try (var next = story.channel()) {
            next.queueDelete(durable);
        }
    }

    void wrongPassword() throws Exception {
        var factory = story.factory.clone();
        factory.setPassword("wrong");
        try {
            factory.newConnection();
        } catch (AuthenticationFailureException refusal) {
            equal("text", refusal.getMessage(), "ACCESS_REFUSED - Login was refused using authentication mechanism "
                    + "PLAIN. For details see the broker logfile.");
            return;
        }
        throw new AssertionError("expected the login to be refused");
    }

    void heartbeats() throws Exception {
        var factory = story.factory.clone();
        factory.setRequestedHeartbeat(HEARTBEAT_SECONDS);
        factory.setAutomaticRecoveryEnabled(false);
        try (var connection = factory.newConnection()) {
            equal("negotiated heartbeat", connection.getHeartbeat(), HEARTBEAT_SECONDS);
            var ends = new LinkedBlockingQueue<ShutdownSignalException>();
            connection.addShutdownListener(ends::add);
            var end = ends.poll(HEARTBEAT_SECONDS * 3500, TimeUnit.MILLISECONDS);
            equal("the connection's end in its idle time", end, null);
            var channel = connection.createChannel();
            var queue = story.exclusiveQueue(channel, "after-idle");
            publishTexts(channel, queue, "still here");
            take(channel, queue, "still here");
        }
    }
}
