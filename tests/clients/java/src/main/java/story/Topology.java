package story;

import static story.Checks.equal;
import static story.Checks.expect;
import static story.Checks.refused;
import static story.Story.bytes;
import static story.Story.consume;
import static story.Story.counts;
import static story.Story.publish;
import static story.Story.publishTexts;
import static story.Story.take;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import java.util.List;
import java.util.Map;

/** Exchanges, queues and bindings. */
final class Topology {
    private final Story story;

    Topology(Story story) {
        this.story = story;
    }

    void declareExchanges() throws Exception {
        try (var channel = story.channel()) {
            for (var type : List.of("direct", "fanout", "topic", "headers")) {
                var name = story.name(type);
                channel.exchangeDeclare(name, type, true);
                channel.exchangeDeclare(name, type, true);
                channel.exchangeDeclarePassive(name);
                channel.exchangeDeclarePassive("amq." + type);
                channel.exchangeDelete(name);
            }
            // One that goes with its last binding, and one nobody may publish to.
            var autoDelete = story.name("auto-delete");
            var internal = story.name("internal");
            channel.exchangeDeclare(autoDelete, BuiltinExchangeType.FANOUT, false, true, null);
            channel.exchangeDeclare(internal, BuiltinExchangeType.FANOUT, false, false, true, null);
            channel.exchangeBind(internal, autoDelete, "");
            channel.exchangeUnbind(internal, autoDelete, "");
            channel.exchangeDelete(internal);
            refused(AMQP.NOT_FOUND, "NOT_FOUND - no exchange '" + autoDelete + "' in vhost '/'",
                    () -> story.channel().exchangeDeclarePassive(autoDelete));
        }
    }

    void declareQueues() throws Exception {
        try (var channel = story.channel()) {
            var durable = story.name("durable");
            channel.queueDeclare(durable, true, false, false, null);
            var again = channel.queueDeclare(durable, true, false, false, null);
            equal("name", again.getQueue(), durable);
            equal("messages", again.getMessageCount(), 0);
            equal("consumers", again.getConsumerCount(), 0);
            equal("messages deleted with the queue", channel.queueDelete(durable).getMessageCount(), 0);

            var serverNamed = channel.queueDeclare().getQueue();
            expect(serverNamed.startsWith("amq.gen-"), "a name amq.gen-..., got " + serverNamed);

            exclusiveQueueIsLocked();

            var autoDelete = channel.queueDeclare(story.name("auto-delete"), true, false, true, null).getQueue();
            consume(channel, autoDelete, "last");
            channel.basicCancel("last");
            refused(AMQP.NOT_FOUND, "NOT_FOUND - no queue '" + autoDelete + "' in vhost '/'",
                    () -> story.channel().queueDeclarePassive(autoDelete));
        }
    }

    /** Other connections get 405, and the queue goes with its connection. */
    private void exclusiveQueueIsLocked() throws Exception {
        var owner = story.factory.newConnection();
        var queue = story.exclusiveQueue(owner.createChannel(), "exclusive");
        refused(AMQP.RESOURCE_LOCKED,
                "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '" + queue + "' in vhost '/'. It could "
                        + "be originally declared on another connection or the exclusive property value does not match "
                        + "that of the original declaration.",
                () -> story.channel().queueDeclarePassive(queue));
        owner.close();
        refused(AMQP.NOT_FOUND, "NOT_FOUND - no queue '" + queue + "' in vhost '/'",
                () -> story.channel().queueDeclarePassive(queue));
    }

    private record Binding(
            String type, String key, Map<String, Object> arguments, List<Message> routed, List<Message> unrouted) {}

    private record Message(String key, Map<String, Object> headers) {}

    private static List<Message> keys(String... keys) {
        return List.of(keys).stream().map(key -> new Message(key, null)).toList();
    }

    private static Message headers(Map<String, Object> headers) {
        return new Message("", headers);
    }

    private static final List<Binding> BINDINGS = List.of(
            new Binding("direct", "black", null, keys("black"), keys("white", "")),
            new Binding("fanout", "any", null, keys("any", "other", ""), List.of()),
            new Binding("topic", "*.orange.*", null,
                    keys("quick.orange.rabbit"),
                    keys("orange", "quick.orange", "quick.orange.male.rabbit")),
            new Binding("topic", "lazy.#", null,
                    keys("lazy", "lazy.brown.fox", "lazy.orange.male.rabbit"),
                    keys("quick.lazy", "lazier")),
            new Binding("topic", "#.rabbit", null, keys("rabbit", "quick.orange.rabbit"), keys("rabbit.hole")),
            new Binding("headers", "", Map.of("x-match", "all", "colour", "orange", "legs", 4),
                    List.of(headers(Map.of("colour", "orange", "legs", 4, "more", true)),
                            headers(Map.of("colour", "orange", "legs", 4L))),
                    List.of(headers(Map.of("colour", "orange")), headers(Map.of("colour", "orange", "legs", 3)))),
            new Binding("headers", "", Map.of("x-match", "any", "colour", "orange", "legs", 4),
                    List.of(headers(Map.of("colour", "orange")), headers(Map.of("colour", "white", "legs", 4))),
                    List.of(headers(Map.of("colour", "white")), headers(null))));

    void bindAndRoute() throws Exception {
        try (var channel = story.channel()) {
            var queue = story.exclusiveQueue(channel, "bound");
            for (var binding : BINDINGS) {
                route(channel, queue, binding);
            }
            exchangeToExchange(channel, queue);
        }
    }

    private void route(Channel channel, String queue, Binding binding) throws Exception {
        var exchange = story.name(binding.type);
        channel.exchangeDeclare(exchange, binding.type);
        channel.queueBind(queue, exchange, binding.key, binding.arguments);
        for (var messages : List.of(binding.routed, binding.unrouted)) {
            for (var message : messages) {
                send(channel, exchange, message);
            }
        }
        counts(channel, queue, binding.routed.size());
        for (var message : binding.routed) {
            var envelope = take(channel, queue, message.key).getEnvelope();
            equal("exchange", envelope.getExchange(), exchange);
            equal("routing key", envelope.getRoutingKey(), message.key);
            channel.basicAck(envelope.getDeliveryTag(), false);
        }
        channel.queueUnbind(queue, exchange, binding.key, binding.arguments);
        send(channel, exchange, binding.routed.get(0));
        counts(channel, queue, 0);
        channel.exchangeDelete(exchange);
    }

    private static void send(Channel channel, String exchange, Message message) throws Exception {
        var properties = new BasicProperties.Builder().headers(message.headers).build();
        publish(channel, exchange, message.key, properties, bytes(message.key));
    }

    private void exchangeToExchange(Channel channel, String queue) throws Exception {
        var source = story.name("source");
        var destination = story.name("destination");
        channel.exchangeDeclare(source, BuiltinExchangeType.TOPIC);
        channel.exchangeDeclare(destination, BuiltinExchangeType.FANOUT);
        channel.exchangeBind(destination, source, "a.*");
        channel.queueBind(queue, destination, "");
        publish(channel, source, "b.c", null, bytes("no"));
        publish(channel, source, "a.b", null, bytes("yes"));
        equal("exchange", take(channel, queue, "yes").getEnvelope().getExchange(), source);
        counts(channel, queue, 0);
        channel.exchangeDelete(destination);
        channel.exchangeDelete(source);
    }

    void alternateExchange() throws Exception {
        try (var channel = story.channel()) {
            var alternate = story.name("alternate");
            var main = story.name("main");
            channel.exchangeDeclare(alternate, BuiltinExchangeType.FANOUT);
            channel.exchangeDeclare(
                    main, BuiltinExchangeType.DIRECT, false, false, Map.of("alternate-exchange", alternate));
            var unrouted = story.exclusiveQueue(channel, "unrouted");
            channel.queueBind(unrouted, alternate, "");
            publish(channel, main, "nobody", null, bytes("lost and found"));
            var envelope = take(channel, unrouted, "lost and found").getEnvelope();
            equal("exchange", envelope.getExchange(), main);
            equal("routing key", envelope.getRoutingKey(), "nobody");
            channel.exchangeDelete(main);
            channel.exchangeDelete(alternate);
        }
    }

    void ccHeader() throws Exception {
        try (var channel = story.channel()) {
            var to = story.exclusiveQueue(channel, "to");
            var cc = story.exclusiveQueue(channel, "cc");
            var bcc = story.exclusiveQueue(channel, "bcc");
            var headers = Map.<String, Object>of("CC", List.of(cc), "BCC", List.of(bcc));
            publish(channel, "", to, new BasicProperties.Builder().headers(headers).build(), bytes("to all"));
            for (var queue : List.of(to, cc, bcc)) {
                var response = take(channel, queue, "to all");
                equal("routing key", response.getEnvelope().getRoutingKey(), to);
                equal("headers without BCC", response.getProps().getHeaders().toString(), "{CC=[" + cc + "]}");
            }
        }
    }

    void purge() throws Exception {
        try (var channel = story.channel()) {
            var queue = story.exclusiveQueue(channel, "purged");
            publishTexts(channel, queue, "a", "b", "c");
            var held = take(channel, queue, "a").getEnvelope().getDeliveryTag();
            equal("purged", channel.queuePurge(queue).getMessageCount(), 2);
            counts(channel, queue, 0);
            // What was handed out is not purged.
            channel.basicNack(held, false, true);
            take(channel, queue, "a");
        }
    }

    void deleteConditions() throws Exception {
        try (var channel = story.channel()) {
            var queue = channel.queueDeclare(story.name("kept"), true, false, false, null).getQueue();
            publishTexts(channel, queue, "a");
            // Channels are not ordered among each other: the message is there before another one asks.
            counts(channel, queue, 1);
            refused(AMQP.PRECONDITION_FAILED, "PRECONDITION_FAILED - queue '" + queue + "' in vhost '/' not empty",
                    () -> story.channel().queueDelete(queue, false, true));

            var consumer = story.channel();
            consume(consumer, queue, "");
            refused(AMQP.PRECONDITION_FAILED, "PRECONDITION_FAILED - queue '" + queue + "' in vhost '/' in use",
                    () -> story.channel().queueDelete(queue, true, false));
            consumer.close();

            var exchange = story.name("used");
            channel.exchangeDeclare(exchange, BuiltinExchangeType.FANOUT);
            channel.queueBind(queue, exchange, "");
            refused(AMQP.PRECONDITION_FAILED, "PRECONDITION_FAILED - exchange '" + exchange + "' in vhost '/' in use",
                    () -> story.channel().exchangeDelete(exchange, true));
            channel.exchangeDelete(exchange);
            equal("messages deleted with the queue", channel.queueDelete(queue).getMessageCount(), 1);
        }
    }
}
