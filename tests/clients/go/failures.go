package main

import (
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func channelErrors(s *story) {
	missing := s.name("missing")
	_, err := s.channel().QueueDeclarePassive(missing, true, false, false, false, nil)
	refused(err, amqp.NotFound, fmt.Sprintf("NOT_FOUND - no queue '%s' in vhost '/'", missing))

	ch := s.channel()
	queue, err := ch.QueueDeclare(s.name("durable"), true, false, false, false, nil)
	check(err, "declare")
	_, err = ch.QueueDeclare(queue.Name, false, false, false, false, nil)
	refused(err, amqp.PreconditionFailed, fmt.Sprintf("PRECONDITION_FAILED - inequivalent arg 'durable' for queue '%s' "+
		"in vhost '/': received 'false' but current is 'true'", queue.Name))

	// An error of a publish comes later, on its own.
	ch = s.channel()
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	check(ch.Publish(missing, "", false, false, text("nowhere")), "publish")
	refused(receive(closed, "the channel's end"), amqp.NotFound, fmt.Sprintf("NOT_FOUND - no exchange '%s' in vhost '/'", missing))

	expect(!s.conn.IsClosed(), "the connection to survive")
	deleteQueue(s.channel(), queue.Name)
}

func wrongPassword(s *story) {
	_, err := amqp.Dial(strings.Replace(s.uri, "guest:guest", "guest:wrong", 1))
	refused(err, amqp.AccessRefused, "username or password not allowed")
}

// A shorter heartbeat would fail on a machine that is merely busy.
const heartbeat = 2 * time.Second

func heartbeats(s *story) {
	conn, err := amqp.DialConfig(s.uri, amqp.Config{Heartbeat: heartbeat})
	check(err, "connect with a short heartbeat")
	equal("negotiated heartbeat", conn.Config.Heartbeat, heartbeat)
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	select {
	case err := <-closed:
		fail("expected heartbeats to keep the connection, it ended with %v", err)
	case <-time.After(heartbeat * 7 / 2):
	}
	ch, err := conn.Channel()
	check(err, "open a channel after the idle time")
	queue := s.exclusiveQueue(ch, "after-idle")
	publishTexts(ch, queue, "still here")
	getText(ch, queue, "still here")
	check(conn.Close(), "close the connection")
}
