package story;

import static story.Checks.equal;
import static story.Checks.expect;
import static story.Story.bytes;
import static story.Story.counts;

import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.StringRpcServer;
import java.util.ArrayList;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeoutException;

/** Requests and replies with the client's own RpcClient and RpcServer, on which templates are built. */
final class Requests {
    private static final int CALLERS = 4;
    private static final int CALLS = 40;

    private final Story story;

    Requests(Story story) {
        this.story = story;
    }

    void overDirectReplyTo() throws Exception {
        call(story.name("rpc-direct"), "amq.rabbitmq.reply-to");
    }

    void overFixedQueue() throws Exception {
        var channel = story.channel();
        call(story.name("rpc-fixed"), story.exclusiveQueue(channel, "rpc-replies"));
        channel.close();
    }

    /** Several threads ask over one channel; each must get the reply to its own question. */
    private void call(String queue, String replyTo) throws Exception {
        var serving = story.channel();
        serving.queueDeclare(queue, false, true, false, null);
        var server = new StringRpcServer(serving, queue) {
            @Override
            public String handleStringCall(String request, BasicProperties replyProperties) {
                return "re: " + request;
            }
        };
        var loop = Executors.newSingleThreadExecutor();
        loop.submit(server::mainloop);
        var asking = story.channel();
        var client = new RpcClient(new RpcClientParams().channel(asking).exchange("").routingKey(queue)
                .replyTo(replyTo).timeout((int) Story.PATIENCE_MS));
        var callers = Executors.newFixedThreadPool(CALLERS);
        var replies = new ArrayList<Future<String>>();
        for (int number = 0; number < CALLS; number++) {
            var request = "question " + number;
            replies.add(callers.submit(() -> client.stringCall(request)));
        }
        for (int number = 0; number < CALLS; number++) {
            equal("reply", replies.get(number).get(), "re: question " + number);
        }
        callers.shutdown();
        client.close();
        server.terminateMainloop();
        loop.shutdown();
        serving.close();
        asking.close();
    }

    /** A request that nobody answers in time leaves the queue, so that a server that comes late is not flooded. */
    void expire() throws Exception {
        var channel = story.channel();
        var queue = story.exclusiveQueue(channel, "rpc-nobody");
        var client = new RpcClient(new RpcClientParams().channel(channel).exchange("").routingKey(queue).timeout(200));
        try {
            client.doCall(new BasicProperties.Builder().expiration("100").build(), bytes("anybody?"));
            throw new AssertionError("expected a timeout");
        } catch (TimeoutException timeout) {
            counts(channel, queue, 0);
            expect(channel.basicGet(queue, true) == null, "the request to have expired");
        }
        client.close();
        channel.close();
    }
}
