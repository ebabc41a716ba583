//! The PHP client php-amqplib of the system packages, run through the story.
