package story;

import static story.Checks.equal;
import static story.Checks.expect;
import static story.Story.bytes;
import static story.Story.consume;
import static story.Story.publish;
import static story.Story.publishTexts;
import static story.Story.receive;

import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import java.io.IOException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Listeners that fail, and listeners of which one works at a time. */
final class Listening {
    private static final int ATTEMPTS_MAX = 3;
    private static final int RETRY_MS = 150;

    private final Story story;

    Listening(Story story) {
        this.story = story;
    }

    /** A failed message waits in a queue with TTL; the broker counts, and the listener parks what failed too often. */
    void retryAndParkingLot() throws Exception {
        var channel = story.channel();
        var parked = story.exclusiveQueue(channel, "parking-lot");
        var work = story.name("work");
        var retry = story.name("retry");
        exclusive(channel, work, Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", retry));
        exclusive(channel, retry, Map.of("x-message-ttl", RETRY_MS,
                "x-dead-letter-exchange", "", "x-dead-letter-routing-key", work));
        var listener = story.channel();
        listener.basicQos(1);
        listener.basicConsume(work, false, (tag, delivery) -> listen(listener, delivery, work, parked), tag -> {});

        var begun = System.nanoTime();
        var headers = Map.<String, Object>of("order", 7);
        var properties = new BasicProperties.Builder().headers(headers).deliveryMode(2).build();
        publish(channel, "", work, properties, bytes("bad"));
        var end = receive(consume(channel, parked, "parked"), "bad");
        var passed = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - begun);
        expect(passed >= RETRY_MS * ATTEMPTS_MAX, "three waits of " + RETRY_MS + " ms, got " + passed);
        var told = end.getProperties().getHeaders();
        equal("own header", told.get("order"), 7);
        equal("attempts that the listener saw", told.get("attempts"), (long) ATTEMPTS_MAX);
        equal("first death's reason", told.get("x-first-death-reason").toString(), "rejected");
        equal("first death's queue", told.get("x-first-death-queue").toString(), work);
        listener.close();
        channel.close();
    }

    private static void listen(Channel channel, Delivery delivery, String work, String parked) throws IOException {
        var properties = delivery.getProperties();
        var attempts = rejections(properties, work);
        var tag = delivery.getEnvelope().getDeliveryTag();
        if (attempts < ATTEMPTS_MAX) {
            channel.basicReject(tag, false);
            return;
        }
        var headers = new HashMap<String, Object>(properties.getHeaders());
        headers.put("attempts", attempts);
        channel.basicPublish("", parked, properties.builder().headers(headers).build(), delivery.getBody());
        channel.basicAck(tag, false);
    }

    /** How often the broker says that this queue's consumers have rejected it. */
    private static long rejections(BasicProperties properties, String queue) {
        var headers = properties.getHeaders();
        if (headers == null || !headers.containsKey("x-death")) {
            return 0;
        }
        return ((List<?>) headers.get("x-death")).stream()
                .map(entry -> (Map<?, ?>) entry)
                .filter(death -> death.get("queue").toString().equals(queue))
                .filter(death -> death.get("reason").toString().equals("rejected"))
                .mapToLong(death -> (Long) death.get("count"))
                .sum();
    }

    /** The first to come works, the others take over in the order in which they came. */
    void singleActiveConsumer() throws Exception {
        var channel = story.channel();
        var queue = story.name("single");
        exclusive(channel, queue, Map.of("x-single-active-consumer", true));
        var first = consume(channel, queue, "first");
        var second = consume(channel, queue, "second");
        var third = consume(channel, queue, "third");
        publishTexts(channel, queue, "a", "b");
        ack(channel, receive(first, "a"));
        var held = receive(first, "b");
        channel.basicCancel("first");
        publishTexts(channel, queue, "c");
        ack(channel, receive(second, "c"));
        // What the first one holds is still its own.
        ack(channel, held);
        channel.basicCancel("second");
        publishTexts(channel, queue, "d");
        ack(channel, receive(third, "d"));
        expect(first.isEmpty() && second.isEmpty() && third.isEmpty(), "no delivery to a consumer that waits");
        channel.close();
    }

    /** When the one that works is lost, what it held goes to the next in its old order. */
    void singleActiveConsumerLost() throws Exception {
        var channel = story.channel();
        var queue = story.name("single-lost");
        channel.queueDeclare(queue, false, false, false, Map.of("x-single-active-consumer", true, "x-expires", 60_000));
        var doomed = story.factory.newConnection("doomed");
        var lost = consume(doomed.createChannel(), queue, "lost");
        var next = consume(channel, queue, "next");
        publishTexts(channel, queue, "a", "b", "c");
        for (var body : List.of("a", "b", "c")) {
            receive(lost, body);
        }
        expect(next.isEmpty(), "no delivery to the consumer that waits");
        doomed.abort();
        for (var body : List.of("a", "b", "c")) {
            var delivery = receive(next, body);
            expect(delivery.getEnvelope().isRedeliver(), body + " to be marked redelivered");
            ack(channel, delivery);
        }
        channel.queueDelete(queue);
        channel.close();
    }

    static void ack(Channel channel, Delivery delivery) throws IOException {
        channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
    }

    static void exclusive(Channel channel, String queue, Map<String, Object> arguments) throws IOException {
        channel.queueDeclare(queue, false, true, false, arguments);
    }
}
