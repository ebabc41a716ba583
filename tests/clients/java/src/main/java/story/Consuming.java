package story;

import static story.Checks.closedWith;
import static story.Checks.equal;
import static story.Checks.expect;
import static story.Checks.next;
import static story.Checks.refused;
import static story.Story.consume;
import static story.Story.counts;
import static story.Story.endOf;
import static story.Story.publishTexts;
import static story.Story.receive;
import static story.Story.take;

import com.rabbitmq.client.AMQP;
import java.util.ArrayDeque;
import java.util.concurrent.LinkedBlockingQueue;

/** Deliveries, and what becomes of them. */
final class Consuming {
    private final Story story;

    Consuming(Story story) {
        this.story = story;
    }

    void acknowledgements() throws Exception {
        var channel = story.channel();
        var queue = story.exclusiveQueue(channel, "acknowledged");
        publishTexts(channel, queue, "a", "b", "c", "d", "e");

        // Requeued, a message returns to its place.
        var first = take(channel, queue, "a").getEnvelope();
        expect(!first.isRedeliver(), "a first delivery not to be marked redelivered");
        channel.basicNack(first.getDeliveryTag(), false, true);
        var again = take(channel, queue, "a").getEnvelope();
        expect(again.isRedeliver(), "a requeued message to be redelivered");
        channel.basicAck(again.getDeliveryTag(), false);

        channel.basicReject(take(channel, queue, "b").getEnvelope().getDeliveryTag(), false);
        take(channel, queue, "c");
        take(channel, queue, "d");
        channel.basicAck(take(channel, queue, "e").getEnvelope().getDeliveryTag(), true);
        counts(channel, queue, 0);

        // What is not settled when its channel goes comes back.
        publishTexts(channel, queue, "f");
        var other = story.channel();
        take(other, queue, "f");
        other.close();
        counts(channel, queue, 1);
        var last = take(channel, queue, "f").getEnvelope();
        expect(last.isRedeliver(), "the message to be redelivered");
        channel.basicAck(last.getDeliveryTag(), false);
        var ends = endOf(channel);
        channel.basicAck(last.getDeliveryTag(), false);
        closedWith(AMQP.PRECONDITION_FAILED, "PRECONDITION_FAILED - unknown delivery tag " + last.getDeliveryTag(),
                next(ends, "the channel's end"));
    }

    void prefetch() throws Exception {
        for (int limit : new int[] {1, 3}) {
            try (var channel = story.channel()) {
                var queue = story.exclusiveQueue(channel, "prefetch-" + limit);
                publishTexts(channel, queue, "0", "1", "2", "3", "4", "5");
                channel.basicQos(limit);
                var deliveries = consume(channel, queue, "");
                var held = new ArrayDeque<Long>();
                for (int i = 0; i < 6; i++) {
                    if (held.size() == limit) {
                        counts(channel, queue, 6 - i);
                        equal("deliveries beyond the limit", deliveries.size(), 0);
                        channel.basicAck(held.remove(), false);
                    }
                    held.add(receive(deliveries, Integer.toString(i)).getEnvelope().getDeliveryTag());
                }
            }
        }
    }

    void get() throws Exception {
        try (var channel = story.channel()) {
            var queue = story.exclusiveQueue(channel, "got");
            publishTexts(channel, queue, "a", "b", "c");
            int left = 3;
            for (var body : new String[] {"a", "b", "c"}) {
                var response = take(channel, queue, body);
                left--;
                equal("messages left", response.getMessageCount(), left);
                equal("delivery tag", response.getEnvelope().getDeliveryTag(), 3L - left);
                equal("routing key", response.getEnvelope().getRoutingKey(), queue);
                channel.basicAck(response.getEnvelope().getDeliveryTag(), false);
            }
            equal("get from an empty queue", channel.basicGet(queue, true), null);
        }
    }

    void serverSentCancel() throws Exception {
        try (var channel = story.channel(); var other = story.channel()) {
            var queue = story.exclusiveQueue(channel, "doomed");
            var cancelled = new LinkedBlockingQueue<String>();
            channel.basicConsume(queue, false, "orphan", (tag, delivery) -> {}, cancelled::add);
            other.queueDelete(queue);
            equal("cancelled consumer", next(cancelled, "basic.cancel"), "orphan");
        }
    }

    void consumerTags() throws Exception {
        try (var channel = story.channel()) {
            var queue = story.exclusiveQueue(channel, "tagged");
            var deliveries = new LinkedBlockingQueue<String>();
            var own = channel.basicConsume(queue, true, "my-tag", (tag, delivery) -> deliveries.add(tag), tag -> {});
            equal("own tag", own, "my-tag");
            publishTexts(channel, queue, "a");
            equal("consumer tag of the delivery", next(deliveries, "a delivery"), "my-tag");
            channel.basicCancel("my-tag");

            var made = channel.basicConsume(queue, true, (tag, delivery) -> deliveries.add(tag), tag -> {});
            expect(made.startsWith("amq.ctag-"), "a tag of the server's making, got " + made);
            publishTexts(channel, queue, "b");
            equal("consumer tag of the delivery", next(deliveries, "a delivery"), made);
        }
    }

    void exclusiveConsumer() throws Exception {
        try (var channel = story.channel()) {
            var queue = story.exclusiveQueue(channel, "one-consumer");
            channel.basicConsume(queue, false, "", false, true, null, (tag, delivery) -> {}, tag -> {});
            refused(AMQP.ACCESS_REFUSED, "ACCESS_REFUSED - queue '" + queue + "' in vhost '/' in exclusive use",
                    () -> consume(story.channel(), queue, ""));
        }
    }

    void recover() throws Exception {
        try (var channel = story.channel()) {
            var queue = story.exclusiveQueue(channel, "recovered");
            publishTexts(channel, queue, "a", "b");
            var deliveries = consume(channel, queue, "");
            receive(deliveries, "a");
            receive(deliveries, "b");
            channel.basicRecover(true);
            for (var body : new String[] {"a", "b"}) {
                var envelope = receive(deliveries, body).getEnvelope();
                expect(envelope.isRedeliver(), "the recovered message to be redelivered");
                channel.basicAck(envelope.getDeliveryTag(), false);
            }
        }
    }
}
