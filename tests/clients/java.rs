//! The Java client com.rabbitmq:amqp-client: fetched and compiled with Maven, run through the story.
