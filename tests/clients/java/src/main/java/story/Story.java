package story;

import static story.Checks.equal;
import static story.Checks.expect;

import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.ShutdownSignalException;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import javax.net.ssl.SSLContext;

/**
 * The story of a broker's user, told with the Java client: every step is a method that checks what it sees; the
 * first thing that is not as expected ends the program. AMQP_URI names the broker.
 */
public final class Story {
    static final long PATIENCE_MS = 10_000;

    @FunctionalInterface
    interface Step {
        void run() throws Exception;
    }

    final ConnectionFactory factory = new ConnectionFactory();
    final Connection connection;
    /** Short, for the broker cuts a reply text after 255 characters. */
    private final String run = "java-" + UUID.randomUUID().toString().substring(0, 8);

    Story(String uri) throws Exception {
        factory.setUri(uri);
        if (uri.startsWith("amqps:")) {
            // Without these two it would take any certificate.
            factory.useSslProtocol(SSLContext.getDefault());
            factory.enableHostnameVerification();
        }
        connection = factory.newConnection("story");
    }

    public static void main(String[] args) throws Exception {
        try {
            var story = new Story(System.getenv("AMQP_URI"));
            for (var step : story.steps().entrySet()) {
                step.getValue().run();
                System.out.println("ok " + step.getKey());
            }
            story.connection.close();
        } catch (Exception | AssertionError failure) {
            failure.printStackTrace();
            System.exit(1);
        }
    }

    private Map<String, Step> steps() {
        var topology = new Topology(this);
        var publishing = new Publishing(this);
        var consuming = new Consuming(this);
        var failures = new Failures(this);
        var steps = new LinkedHashMap<String, Step>();
        steps.put("connect", this::connect);
        steps.put("declare_exchanges", topology::declareExchanges);
        steps.put("declare_queues", topology::declareQueues);
        steps.put("bind_and_route", topology::bindAndRoute);
        steps.put("properties", publishing::properties);
        steps.put("acknowledgements", consuming::acknowledgements);
        steps.put("prefetch", consuming::prefetch);
        steps.put("confirms", publishing::confirms);
        steps.put("mandatory_return", publishing::mandatoryReturn);
        steps.put("transactions", publishing::transactions);
        steps.put("get", consuming::get);
        steps.put("rpc_direct_reply_to", publishing::rpcDirectReplyTo);
        steps.put("large_body", publishing::largeBody);
        steps.put("server_sent_cancel", consuming::serverSentCancel);
        steps.put("channel_errors", failures::channelErrors);
        steps.put("wrong_password", failures::wrongPassword);
        steps.put("heartbeats", failures::heartbeats);
        steps.put("alternate_exchange", topology::alternateExchange);
        steps.put("cc_header", topology::ccHeader);
        steps.put("consumer_tags", consuming::consumerTags);
        steps.put("purge", topology::purge);
        steps.put("delete_conditions", topology::deleteConditions);
        steps.put("exclusive_consumer", consuming::exclusiveConsumer);
        steps.put("recover", consuming::recover);
        return steps;
    }

    private void connect() throws Exception {
        var properties = connection.getServerProperties();
        equal("product", properties.get("product").toString(), "RabbitMQ");
        var capabilities = (Map<?, ?>) properties.get("capabilities");
        for (var name : new String[] {
            "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
            "connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos",
            "direct_reply_to"
        }) {
            equal("capability " + name, capabilities.get(name), true);
        }
        expect(connection.getFrameMax() > 0, "a frame_max");
        expect(connection.getChannelMax() > 0, "a channel_max");
        channel().close();
    }

    /** A queue's or exchange's name that no other run uses. */
    String name(String what) {
        return run + "." + what;
    }

    Channel channel() throws Exception {
        return connection.createChannel();
    }

    /** Declares an exclusive queue, which goes with the connection. */
    String exclusiveQueue(Channel channel, String what) throws Exception {
        return channel.queueDeclare(name(what), false, true, false, null).getQueue();
    }

    /** Publishes a message and waits until the broker has confirmed it. */
    static void publish(Channel channel, String exchange, String key, BasicProperties properties, byte[] body)
            throws Exception {
        channel.confirmSelect();
        channel.basicPublish(exchange, key, properties, body);
        channel.waitForConfirmsOrDie(PATIENCE_MS);
    }

    static void publishTexts(Channel channel, String queue, String... texts) throws Exception {
        for (var text : texts) {
            publish(channel, "", queue, null, bytes(text));
        }
    }

    /** Starts a consumer that acknowledges by hand. */
    static BlockingQueue<Delivery> consume(Channel channel, String queue, String tag) throws Exception {
        var deliveries = new LinkedBlockingQueue<Delivery>();
        channel.basicConsume(queue, false, tag, (consumerTag, delivery) -> deliveries.add(delivery), consumerTag -> {});
        return deliveries;
    }

    /** Waits for a delivery with this body. */
    static Delivery receive(BlockingQueue<Delivery> deliveries, String body) throws Exception {
        var delivery = Checks.next(deliveries, "a delivery of " + body);
        equal("body", text(delivery.getBody()), body);
        return delivery;
    }

    /** Takes a message with this body off the queue, unacknowledged. */
    static GetResponse take(Channel channel, String queue, String body) throws Exception {
        var response = channel.basicGet(queue, false);
        expect(response != null, "a message " + body + " in the queue");
        equal("body", text(response.getBody()), body);
        return response;
    }

    /** Asks the broker for the ready messages of a queue. */
    static void counts(Channel channel, String queue, int messages) throws Exception {
        equal("messages in " + queue, channel.queueDeclarePassive(queue).getMessageCount(), messages);
    }

    /** What will close the channel. */
    static BlockingQueue<ShutdownSignalException> endOf(Channel channel) {
        var ends = new LinkedBlockingQueue<ShutdownSignalException>();
        channel.addShutdownListener(ends::add);
        return ends;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] body) {
        return new String(body, StandardCharsets.UTF_8);
    }
}
