package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func properties(s *story) {
	ch := s.channel()
	defer ch.Close()
	queue := s.exclusiveQueue(ch, "properties")
	second := time.Unix(1_700_000_000, 0)
	sent := amqp.Publishing{
		ContentType:     "application/octet-stream",
		ContentEncoding: "gzip",
		DeliveryMode:    amqp.Persistent,
		Priority:        7,
		CorrelationId:   "correlation",
		ReplyTo:         "reply.here",
		Expiration:      "60000",
		MessageId:       "message-1",
		Timestamp:       second,
		Type:            "a.type",
		UserId:          "guest",
		AppId:           "story",
		Headers: amqp.Table{
			"bool":      true,
			"int8":      int8(-8),
			"byte":      byte(200),
			"int16":     int16(-1600),
			"uint16":    uint16(60_000),
			"int32":     int32(-320_000),
			"uint32":    uint32(4_000_000_000),
			"int64":     int64(-6_400_000_000),
			"float32":   float32(1.5),
			"float64":   2.25,
			"decimal":   amqp.Decimal{Scale: 2, Value: 31415},
			"string":    "žluťoučký kůň",
			"bytes":     []byte{0, 255, 206},
			"timestamp": second,
			"void":      nil,
			"array":     []any{"one", int32(2), amqp.Table{"three": int64(3)}, []any{false}},
			"table":     amqp.Table{"inner": amqp.Table{"innermost": "deep"}, "empty": amqp.Table{}},
		},
		Body: []byte{0, 1, 2, 254, 255},
	}
	publish(ch, "", queue, sent)

	deliveries := consume(ch, queue, "")
	got := receive(deliveries, "the message")
	equal("content-type", got.ContentType, sent.ContentType)
	equal("content-encoding", got.ContentEncoding, sent.ContentEncoding)
	equal("delivery-mode", got.DeliveryMode, sent.DeliveryMode)
	equal("priority", got.Priority, sent.Priority)
	equal("correlation-id", got.CorrelationId, sent.CorrelationId)
	equal("reply-to", got.ReplyTo, sent.ReplyTo)
	equal("expiration", got.Expiration, sent.Expiration)
	equal("message-id", got.MessageId, sent.MessageId)
	equal("timestamp", got.Timestamp.Unix(), sent.Timestamp.Unix())
	equal("type", got.Type, sent.Type)
	equal("user-id", got.UserId, sent.UserId)
	equal("app-id", got.AppId, sent.AppId)
	equal("number of headers", len(got.Headers), len(sent.Headers))
	for name, value := range sent.Headers {
		equal("header "+name, got.Headers[name], value)
	}
	equal("body", got.Body, sent.Body)

	// Properties that were not set do not appear.
	publish(ch, "", queue, amqp.Publishing{})
	bare := receive(deliveries, "the bare message")
	bare.Acknowledger, bare.ConsumerTag, bare.Body = nil, "", nil
	equal("bare delivery", bare, amqp.Delivery{DeliveryTag: 2, RoutingKey: queue})
}

func largeBody(s *story) {
	ch := s.channel()
	defer ch.Close()
	queue := s.exclusiveQueue(ch, "large")
	body := make([]byte, 5*1024*1024)
	for i := range body {
		body[i] = byte(i * 31 >> 3)
	}
	publish(ch, "", queue, amqp.Publishing{Body: body})
	delivery := receive(consume(ch, queue, ""), "the large message")
	equal("length", len(delivery.Body), len(body))
	expect(bytes.Equal(delivery.Body, body), "the large body to come back as it was")
	check(delivery.Ack(false), "ack")
}

func confirms(s *story) {
	ch := s.channel()
	defer ch.Close()
	queue := s.exclusiveQueue(ch, "confirmed")
	publishTexts(ch, queue, "alone")

	const count = 1000
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// The library spreads a `multiple` ack over all the confirmations it is about.
	notified := ch.NotifyPublish(make(chan amqp.Confirmation, count))
	var pending []*amqp.DeferredConfirmation
	for i := range count {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: fmt.Append(nil, i)}
		confirmation, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", queue, false, false, message)
		check(err, "publish")
		pending = append(pending, confirmation)
	}
	for i, confirmation := range pending {
		equal("sequence number", confirmation.DeliveryTag, uint64(i+2))
		acked, err := confirmation.WaitContext(ctx)
		check(err, "wait for a confirm")
		expect(acked, "every publish to be acked")
	}
	for i := range count {
		confirmation := receive(notified, "a notification of a confirm")
		equal("confirmation", confirmation, amqp.Confirmation{DeliveryTag: uint64(i + 2), Ack: true})
	}
	counts(ch, queue, 1+count)

	// A message nobody wants is confirmed as well.
	publish(ch, "amq.direct", s.name("nowhere"), text("nobody"))
}

func mandatoryReturn(s *story) {
	ch := s.channel()
	defer ch.Close()
	check(ch.Confirm(false), "confirm.select")
	// Without a buffer, what the broker sent first is seen first.
	returns := ch.NotifyReturn(make(chan amqp.Return))
	confirmations := ch.NotifyPublish(make(chan amqp.Confirmation))
	message := text("come back")
	message.MessageId = "returned-1"
	check(ch.Publish("amq.direct", s.name("nowhere"), true, false, message), "publish")
	select {
	case returned := <-returns:
		equal("reply code", returned.ReplyCode, uint16(amqp.NoRoute))
		equal("reply text", returned.ReplyText, "NO_ROUTE")
		equal("exchange", returned.Exchange, "amq.direct")
		equal("routing key", returned.RoutingKey, s.name("nowhere"))
		equal("message id", returned.MessageId, "returned-1")
		equal("body", string(returned.Body), "come back")
	case <-confirmations:
		fail("expected the return before the confirm")
	case <-time.After(patience):
		fail("expected a return in %v", patience)
	}
	equal("confirm", receive(confirmations, "the confirm"), amqp.Confirmation{DeliveryTag: 1, Ack: true})
}

func transactions(s *story) {
	ch, witness := s.channel(), s.channel()
	defer ch.Close()
	defer witness.Close()
	queue := s.exclusiveQueue(ch, "transactional")
	check(ch.Tx(), "tx.select")
	put := func(body string) {
		check(ch.Publish("", queue, false, false, text(body)), "publish")
	}
	put("committed")
	counts(witness, queue, 0)
	check(ch.TxCommit(), "commit")
	counts(witness, queue, 1)
	put("rolled back")
	check(ch.TxRollback(), "roll back")
	counts(witness, queue, 1)

	// An ack that is rolled back leaves the message with the channel.
	delivery := getText(ch, queue, "committed")
	check(delivery.Ack(false), "ack")
	check(ch.TxRollback(), "roll back")
	check(delivery.Nack(false, true), "nack")
	check(ch.TxCommit(), "commit")
	delivery = getText(ch, queue, "committed")
	expect(delivery.Redelivered, "the message to be redelivered")
	check(delivery.Ack(false), "ack")
	check(ch.TxCommit(), "commit")
	counts(witness, queue, 0)
}

func rpcDirectReplyTo(s *story) {
	ch, server := s.channel(), s.channel()
	defer ch.Close()
	defer server.Close()
	queue := s.exclusiveQueue(server, "rpc")
	requests := consume(server, queue, "")
	replies, err := ch.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil)
	check(err, "consume replies")
	for i := range 3 {
		request := text(fmt.Sprint("question ", i))
		request.ReplyTo, request.CorrelationId = "amq.rabbitmq.reply-to", fmt.Sprint(i)
		check(ch.Publish("", queue, false, false, request), "publish the request")

		asked := receive(requests, "a request")
		expect(asked.ReplyTo != request.ReplyTo, "the broker to give the reply-to a name of its own")
		answer := text("answer to " + string(asked.Body))
		answer.CorrelationId = asked.CorrelationId
		check(server.Publish("", asked.ReplyTo, false, false, answer), "publish the reply")
		check(asked.Ack(false), "ack")

		answered := receiveText(replies, fmt.Sprint("answer to question ", i))
		equal("correlation-id", answered.CorrelationId, fmt.Sprint(i))
	}
}
