package main

import (
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

func acknowledgements(s *story) {
	ch := s.channel()
	defer ch.Close()
	queue := s.exclusiveQueue(ch, "acknowledged")
	publishTexts(ch, queue, "a", "b", "c", "d", "e")

	// Requeued, a message returns to its place.
	first := getText(ch, queue, "a")
	expect(!first.Redelivered, "a first delivery not to be marked redelivered")
	check(first.Nack(false, true), "nack")
	again := getText(ch, queue, "a")
	expect(again.Redelivered, "a requeued message to be redelivered")
	check(again.Ack(false), "ack")

	check(getText(ch, queue, "b").Reject(false), "reject")
	getText(ch, queue, "c")
	getText(ch, queue, "d")
	check(getText(ch, queue, "e").Ack(true), "ack all so far")
	counts(ch, queue, 0)

	// What is not settled when its channel goes comes back.
	publishTexts(ch, queue, "f")
	short := s.channel()
	getText(short, queue, "f")
	check(short.Close(), "close a channel that holds a message")
	counts(ch, queue, 1)
	last := getText(ch, queue, "f")
	expect(last.Redelivered, "the message to be redelivered")
	check(last.Ack(false), "ack")
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	check(last.Ack(false), "send a second ack")
	tag := fmt.Sprint(last.DeliveryTag)
	refused(receive(closed, "the channel's end"), amqp.PreconditionFailed, "PRECONDITION_FAILED - unknown delivery tag "+tag)
}

func prefetch(s *story) {
	for _, limit := range []int{1, 3} {
		ch := s.channel()
		queue := s.exclusiveQueue(ch, fmt.Sprint("prefetch-", limit))
		publishTexts(ch, queue, "0", "1", "2", "3", "4", "5")
		check(ch.Qos(limit, 0, false), "set the prefetch")
		deliveries := consume(ch, queue, "")
		var held []amqp.Delivery
		for next := range 6 {
			if len(held) == limit {
				counts(ch, queue, 6-next)
				check(held[0].Ack(false), "ack")
				held = held[1:]
			}
			held = append(held, receiveText(deliveries, fmt.Sprint(next)))
		}
		check(ch.Close(), "close the channel")
	}
}

func get(s *story) {
	ch := s.channel()
	defer ch.Close()
	queue := s.exclusiveQueue(ch, "got")
	publishTexts(ch, queue, "a", "b", "c")
	for i, body := range []string{"a", "b", "c"} {
		delivery := getText(ch, queue, body)
		equal("messages left", delivery.MessageCount, uint32(2-i))
		equal("delivery tag", delivery.DeliveryTag, uint64(i+1))
		equal("routing key", delivery.RoutingKey, queue)
		check(delivery.Ack(false), "ack")
	}
	_, found, err := ch.Get(queue, true)
	check(err, "get from an empty queue")
	expect(!found, "the queue to be empty")
}

func serverSentCancel(s *story) {
	ch, other := s.channel(), s.channel()
	defer ch.Close()
	defer other.Close()
	queue := s.exclusiveQueue(ch, "doomed")
	cancelled := ch.NotifyCancel(make(chan string, 1))
	consume(ch, queue, "orphan")
	deleteQueue(other, queue)
	equal("cancelled consumer", receive(cancelled, "basic.cancel"), "orphan")
}

func consumerTags(s *story) {
	ch := s.channel()
	defer ch.Close()
	queue := s.exclusiveQueue(ch, "tagged")
	own := consume(ch, queue, "my-tag")
	publishTexts(ch, queue, "a")
	equal("consumer tag", receiveText(own, "a").ConsumerTag, "my-tag")
	check(ch.Cancel("my-tag", false), "cancel")
	if _, open := <-own; open {
		fail("expected no delivery after the cancel")
	}

	// The library never leaves the tag to the server: it makes up one of its own.
	made := consume(ch, queue, "")
	publishTexts(ch, queue, "b")
	tag := receiveText(made, "b").ConsumerTag
	expect(strings.HasPrefix(tag, "ctag-"), "a tag of the library's making, got "+tag)
}

func exclusiveConsumer(s *story) {
	ch := s.channel()
	defer ch.Close()
	queue := s.exclusiveQueue(ch, "one-consumer")
	_, err := ch.Consume(queue, "", false, true, false, false, nil)
	check(err, "consume exclusively")
	_, err = s.channel().Consume(queue, "", false, false, false, false, nil)
	refused(err, amqp.AccessRefused, fmt.Sprintf("ACCESS_REFUSED - queue '%s' in vhost '/' in exclusive use", queue))
}

func recoverUnacked(s *story) {
	ch := s.channel()
	defer ch.Close()
	queue := s.exclusiveQueue(ch, "recovered")
	publishTexts(ch, queue, "a", "b")
	deliveries := consume(ch, queue, "")
	receiveText(deliveries, "a")
	receiveText(deliveries, "b")
	check(ch.Recover(true), "recover")
	for _, body := range []string{"a", "b"} {
		delivery := receiveText(deliveries, body)
		expect(delivery.Redelivered, "the recovered message to be redelivered")
		check(delivery.Ack(false), "ack")
	}
}
