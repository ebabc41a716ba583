//! The Go client amqp091-go: fetched as a Go module, compiled, run through the story.
