package story;

import static story.Checks.equal;
import static story.Checks.expect;
import static story.Checks.next;
import static story.Story.bytes;
import static story.Story.consume;
import static story.Story.counts;
import static story.Story.publish;
import static story.Story.publishTexts;
import static story.Story.take;
import static story.Story.text;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** What is published arrives as it was, and the publisher is told. */
final class Publishing {
    private final Story story;

    Publishing(Story story) {
        this.story = story;
    }

    void properties() throws Exception {
        try (var channel = story.channel()) {
            var queue = story.exclusiveQueue(channel, "properties");
            var second = new Date(1_700_000_000_000L);
            var sent = new BasicProperties.Builder()
                    .contentType("application/octet-stream")
                    .contentEncoding("gzip")
                    .headers(headersOfEveryType(second))
                    .deliveryMode(2)
                    .priority(7)
                    .correlationId("correlation")
                    .replyTo("reply.here")
                    .expiration("60000")
                    .messageId("message-1")
                    .timestamp(second)
                    .type("a.type")
                    .userId(story.factory.getUsername())
                    .appId("story")
                    .clusterId("cluster")
                    .build();
            var body = new byte[] {0, 1, 2, -2, -1};
            publish(channel, "", queue, sent, body);

            var deliveries = consume(channel, queue, "");
            var delivery = next(deliveries, "the message");
            var got = delivery.getProperties();
            for (var header : sent.getHeaders().entrySet()) {
                var name = header.getKey();
                equal("header " + name, plain(got.getHeaders().get(name)), header.getValue());
            }
            equal("number of headers", got.getHeaders().size(), sent.getHeaders().size());
            // The rest in one comparison: the library's equality is over all properties.
            equal("properties", got.builder().headers(null).build(), sent.builder().headers(null).build());
            equal("body", delivery.getBody(), body);

            // Properties that were not set do not appear.
            publish(channel, "", queue, null, new byte[0]);
            var bare = next(deliveries, "the bare message");
            equal("bare properties", bare.getProperties(), new BasicProperties());
            equal("bare body", bare.getBody().length, 0);
        }
    }

    private static Map<String, Object> headersOfEveryType(Date second) {
        var headers = new LinkedHashMap<String, Object>();
        headers.put("boolean", true);
        headers.put("byte", (byte) -8);
        headers.put("short", (short) -1600);
        headers.put("int", -320_000);
        headers.put("long", -6_400_000_000L);
        headers.put("float", 1.5f);
        headers.put("double", 2.25);
        headers.put("decimal", new BigDecimal("314.15"));
        headers.put("string", "žluťoučký kůň");
        headers.put("bytes", new byte[] {0, -1, (byte) 206});
        headers.put("timestamp", second);
        headers.put("void", null);
        headers.put("array", List.of("one", 2, Map.of("three", 3L), List.of(false)));
        headers.put("table", Map.of("inner", Map.of("innermost", "deep"), "empty", Map.of()));
        return headers;
    }

    /** The same value with strings in place of the library's long strings. */
    private static Object plain(Object value) {
        if (value instanceof LongString) {
            return value.toString();
        }
        if (value instanceof List<?> list) {
            return list.stream().map(Publishing::plain).toList();
        }
        if (value instanceof Map<?, ?> map) {
            var copy = new HashMap<Object, Object>();
            map.forEach((key, inner) -> copy.put(key, plain(inner)));
            return copy;
        }
        return value;
    }

    void largeBody() throws Exception {
        try (var channel = story.channel()) {
            var queue = story.exclusiveQueue(channel, "large");
            var body = new byte[5 * 1024 * 1024];
            for (int i = 0; i < body.length; i++) {
                body[i] = (byte) (i * 31 >> 3);
            }
            publish(channel, "", queue, null, body);
            var delivery = next(consume(channel, queue, ""), "the large message");
            equal("length", delivery.getBody().length, body.length);
            equal("large body", delivery.getBody(), body);
            channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
        }
    }

    void confirms() throws Exception {
        try (var channel = story.channel()) {
            var queue = story.exclusiveQueue(channel, "confirmed");
            publishTexts(channel, queue, "alone");

            final int count = 1000;
            var pending = new ConcurrentSkipListSet<Long>();
            var refused = new LinkedBlockingQueue<Long>();
            var done = new CountDownLatch(1);
            channel.addConfirmListener(
                    (sequence, multiple) -> {
                        if (multiple) {
                            pending.headSet(sequence, true).clear();
                        } else {
                            pending.remove(sequence);
                        }
                        // The last publish is in `pending` before it is sent.
                        if (pending.isEmpty()) {
                            done.countDown();
                        }
                    },
                    (sequence, multiple) -> refused.add(sequence));
            equal("next sequence number", channel.getNextPublishSeqNo(), 2L);
            for (long sequence = 2; sequence < 2 + count; sequence++) {
                pending.add(sequence);
            }
            for (int i = 0; i < count; i++) {
                channel.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, bytes("message " + i));
            }
            expect(done.await(Story.PATIENCE_MS, TimeUnit.MILLISECONDS), "all to be confirmed, not " + pending);
            equal("nacked", refused.size(), 0);
            counts(channel, queue, 1 + count);

            // A message nobody wants is confirmed as well.
            publish(channel, "amq.direct", story.name("nowhere"), null, bytes("nobody"));
        }
    }

    void mandatoryReturn() throws Exception {
        try (var channel = story.channel()) {
            var events = new LinkedBlockingQueue<String>();
            channel.confirmSelect();
            channel.addReturnListener(returned -> events.add(String.join(" ",
                    "returned", Integer.toString(returned.getReplyCode()), returned.getReplyText(),
                    returned.getExchange(), returned.getRoutingKey(), returned.getProperties().getMessageId(),
                    text(returned.getBody()))));
            channel.addConfirmListener(
                    (sequence, multiple) -> events.add("confirmed " + sequence),
                    (sequence, multiple) -> events.add("refused " + sequence));
            var nowhere = story.name("nowhere");
            var properties = new BasicProperties.Builder().messageId("returned-1").build();
            channel.basicPublish("amq.direct", nowhere, true, properties, bytes("come back"));
            equal("first event", next(events, "a return"),
                    "returned " + AMQP.NO_ROUTE + " NO_ROUTE amq.direct " + nowhere + " returned-1 come back");
            equal("second event", next(events, "a confirm"), "confirmed 1");
        }
    }

    void transactions() throws Exception {
        try (var channel = story.channel(); var witness = story.channel()) {
            var queue = story.exclusiveQueue(channel, "transactional");
            channel.txSelect();
            channel.basicPublish("", queue, null, bytes("committed"));
            counts(witness, queue, 0);
            channel.txCommit();
            counts(witness, queue, 1);
            channel.basicPublish("", queue, null, bytes("rolled back"));
            channel.txRollback();
            counts(witness, queue, 1);

            // An ack that is rolled back leaves the message with the channel.
            var tag = take(channel, queue, "committed").getEnvelope().getDeliveryTag();
            channel.basicAck(tag, false);
            channel.txRollback();
            channel.basicNack(tag, false, true);
            channel.txCommit();
            var envelope = take(channel, queue, "committed").getEnvelope();
            expect(envelope.isRedeliver(), "the message to be redelivered");
            channel.basicAck(envelope.getDeliveryTag(), false);
            channel.txCommit();
            counts(witness, queue, 0);
        }
    }

    void rpcDirectReplyTo() throws Exception {
        try (var channel = story.channel(); var server = story.channel()) {
            var queue = story.exclusiveQueue(server, "rpc");
            var replyTos = new LinkedBlockingQueue<String>();
            server.basicConsume(queue, true, (tag, request) -> {
                var asked = request.getProperties();
                replyTos.add(asked.getReplyTo());
                var answer = new BasicProperties.Builder().correlationId(asked.getCorrelationId()).build();
                server.basicPublish("", asked.getReplyTo(), answer, bytes("answer to " + text(request.getBody())));
            }, tag -> {});

            // The library's RPC client uses amq.rabbitmq.reply-to unless told otherwise.
            var client = new RpcClient(new RpcClientParams().channel(channel).exchange("").routingKey(queue)
                    .timeout((int) Story.PATIENCE_MS));
            var answers = new ArrayList<String>();
            for (int i = 0; i < 3; i++) {
                answers.add(text(client.primitiveCall(bytes("question " + i))));
            }
            equal("answers", answers, List.of("answer to question 0", "answer to question 1", "answer to question 2"));
            var replyTo = replyTos.remove();
            expect(replyTo.startsWith("amq.rabbitmq.reply-to."), "a reply-to of the broker's making, got " + replyTo);
            client.close();
        }
    }
}
