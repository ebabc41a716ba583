package story;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What frameworks such as Spring AMQP make of the client: listeners that retry and park, requests and replies,
 * publishers that are told no. All steps are tried; {@code --no-quorum-priorities} leaves out the one that RabbitMQ
 * has since 4.3.
 */
public final class Frameworks {
    private Frameworks() {}

    public static void main(String[] args) throws Exception {
        var failed = new ArrayList<String>();
        var story = new Story(System.getenv("AMQP_URI"));
        var steps = steps(story);
        if (Arrays.asList(args).contains("--no-quorum-priorities")) {
            steps.remove("quorum_priorities");
        }
        for (var step : steps.entrySet()) {
            try {
                step.getValue().run();
                System.out.println("ok " + step.getKey());
            } catch (Exception | AssertionError failure) {
                failed.add(step.getKey());
                failure.printStackTrace();
            }
        }
        story.connection.close();
        if (!failed.isEmpty()) {
            System.err.println("failed: " + String.join(" ", failed));
            System.exit(1);
        }
    }

    private static Map<String, Story.Step> steps(Story story) {
        var listening = new Listening(story);
        var requests = new Requests(story);
        var quorum = new Quorum(story);
        var refusals = new Refusals(story);
        var steps = new LinkedHashMap<String, Story.Step>();
        steps.put("retry_and_parking_lot", listening::retryAndParkingLot);
        steps.put("single_active_consumer", listening::singleActiveConsumer);
        steps.put("single_active_consumer_lost", listening::singleActiveConsumerLost);
        steps.put("rpc_over_direct_reply_to", requests::overDirectReplyTo);
        steps.put("rpc_over_a_fixed_queue", requests::overFixedQueue);
        steps.put("requests_expire", requests::expire);
        steps.put("quorum_delivery_limit", quorum::deliveryLimit);
        steps.put("quorum_crashed_consumer", quorum::crashedConsumer);
        steps.put("quorum_priorities", quorum::priorities);
        steps.put("reject_publish", refusals::rejectPublish);
        steps.put("reject_publish_to_dead_letters", refusals::rejectPublishToDeadLetters);
        steps.put("returned_then_confirmed", refusals::returnedThenConfirmed);
        return steps;
    }
}
