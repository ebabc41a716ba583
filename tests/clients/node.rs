//! The Node client amqplib: fetched with npm, run through the story.
