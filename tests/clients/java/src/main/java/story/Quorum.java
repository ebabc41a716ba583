package story;

import static story.Checks.equal;
import static story.Checks.expect;
import static story.Listening.ack;
import static story.Story.bytes;
import static story.Story.consume;
import static story.Story.publish;
import static story.Story.publishTexts;
import static story.Story.receive;
import static story.Story.take;

import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Quorum queues, which count how often a message was handed out. */
final class Quorum {
    private final Story story;

    Quorum(Story story) {
        this.story = story;
    }

    /** A message that is thrown back too often is poison, and goes to the dead letters by itself. */
    void deliveryLimit() throws Exception {
        var channel = story.channel();
        var dead = story.exclusiveQueue(channel, "poison");
        var queue = declare(channel, "limited",
                Map.of("x-delivery-limit", 2, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead));
        var deliveries = consume(channel, queue, "limited");
        publishTexts(channel, queue, "poison");
        for (long count = 0; count <= 2; count++) {
            var delivery = receive(deliveries, "poison");
            equal("x-delivery-count", deliveryCount(delivery), count == 0 ? null : count);
            equal("redelivered", delivery.getEnvelope().isRedeliver(), count > 0);
            channel.basicReject(delivery.getEnvelope().getDeliveryTag(), true);
        }
        var end = receive(consume(channel, dead, "dead"), "poison");
        var deaths = (List<?>) end.getProperties().getHeaders().get("x-death");
        equal("deaths", deaths.size(), 1);
        var death = (Map<?, ?>) deaths.get(0);
        equal("reason", death.get("reason").toString(), "delivery_limit");
        equal("queue", death.get("queue").toString(), queue);
        expect(deliveries.isEmpty(), "no further delivery");
        channel.queueDelete(queue);
        channel.close();
    }

    /** A consumer that is lost with a message counts as an attempt. */
    void crashedConsumer() throws Exception {
        var channel = story.channel();
        var queue = declare(channel, "crashed", Map.of());
        publishTexts(channel, queue, "survivor");
        var doomed = story.factory.newConnection("doomed");
        receive(consume(doomed.createChannel(), queue, "doomed"), "survivor");
        doomed.abort();
        var delivery = receive(consume(channel, queue, "next"), "survivor");
        equal("x-delivery-count", deliveryCount(delivery), 1L);
        ack(channel, delivery);
        channel.queueDelete(queue);
        channel.close();
    }

    /** Strict levels without any argument; a message without priority has 4. */
    void priorities() throws Exception {
        var channel = story.channel();
        var queue = declare(channel, "prioritized", Map.of());
        for (var priority : new Integer[] {1, null, 31, 5, 4}) {
            var properties = new BasicProperties.Builder().priority(priority).build();
            publish(channel, "", queue, properties, bytes("p" + priority));
        }
        for (var body : List.of("p31", "p5", "pnull", "p4", "p1")) {
            channel.basicAck(take(channel, queue, body).getEnvelope().getDeliveryTag(), false);
        }
        channel.queueDelete(queue);
        channel.close();
    }

    private static Object deliveryCount(Delivery delivery) {
        var headers = delivery.getProperties().getHeaders();
        return headers == null ? null : headers.get("x-delivery-count");
    }

    private String declare(Channel channel, String what, Map<String, Object> further) throws Exception {
        var arguments = new HashMap<String, Object>(further);
        arguments.put("x-queue-type", "quorum");
        // Should the step not come to its end.
        arguments.put("x-expires", 60_000);
        return channel.queueDeclare(story.name(what), true, false, false, arguments).getQueue();
    }
}
