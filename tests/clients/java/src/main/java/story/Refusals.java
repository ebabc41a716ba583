package story;

import static story.Checks.equal;
import static story.Checks.next;
import static story.Listening.exclusive;
import static story.Story.bytes;
import static story.Story.consume;
import static story.Story.counts;
import static story.Story.receive;
import static story.Story.take;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** Publishers that are told no: refused by a full queue, or returned by an exchange that knows no queue for it. */
final class Refusals {
    private final Story story;

    Refusals(Story story) {
        this.story = story;
    }

    /** The queue keeps what it has, and the publisher learns which message it did not take. */
    void rejectPublish() throws Exception {
        var channel = story.channel();
        var queue = story.name("full");
        exclusive(channel, queue, Map.of("x-max-length", 2, "x-overflow", "reject-publish"));
        var answers = answers(channel);
        for (var body : List.of("a", "b", "c")) {
            channel.basicPublish("", queue, null, bytes(body));
            equal("answer to " + body, next(answers, "an answer"), body.equals("c") ? "nack" : "ack");
        }
        counts(channel, queue, 2);
        channel.basicAck(take(channel, queue, "a").getEnvelope().getDeliveryTag(), false);
        channel.basicPublish("", queue, null, bytes("d"));
        equal("answer once there is room", next(answers, "an answer"), "ack");
        take(channel, queue, "b");
        take(channel, queue, "d");
        channel.close();
    }

    void rejectPublishToDeadLetters() throws Exception {
        var channel = story.channel();
        var dead = story.exclusiveQueue(channel, "overflowed");
        var queue = story.name("full-with-dead-letters");
        exclusive(channel, queue, Map.of("x-max-length", 1, "x-overflow", "reject-publish-dlx",
                "x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead));
        var answers = answers(channel);
        for (var body : List.of("kept", "refused")) {
            channel.basicPublish("", queue, null, bytes(body));
            equal("answer to " + body, next(answers, "an answer"), body.equals("kept") ? "ack" : "nack");
        }
        var refused = receive(consume(channel, dead, "dead"), "refused");
        var death = (Map<?, ?>) ((List<?>) refused.getProperties().getHeaders().get("x-death")).get(0);
        equal("reason", death.get("reason").toString(), "maxlen");
        take(channel, queue, "kept");
        channel.close();
    }

    /** A mandatory message that no queue takes comes back, and is confirmed after that. */
    void returnedThenConfirmed() throws Exception {
        var channel = story.channel();
        var answers = answers(channel);
        channel.addReturnListener(returned ->
                answers.add("return " + returned.getReplyCode() + " " + Story.text(returned.getBody())));
        channel.basicPublish("amq.direct", story.name("nowhere"), true, null, bytes("lost"));
        equal("first", next(answers, "an answer"), "return " + AMQP.NO_ROUTE + " lost");
        equal("then", next(answers, "an answer"), "ack");
        channel.close();
    }

    private static BlockingQueue<String> answers(Channel channel) throws Exception {
        var answers = new LinkedBlockingQueue<String>();
        channel.confirmSelect();
        channel.addConfirmListener((tag, multiple) -> answers.add("ack"), (tag, multiple) -> answers.add("nack"));
        return answers;
    }
}
