package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// patience is how long anything that must happen may take.
const patience = 10 * time.Second

// story holds what the steps share: one connection, and a prefix that no other run uses for its names.
type story struct {
	uri  string
	run  string
	conn *amqp.Connection
}

// name makes a queue's or exchange's name of this run.
func (s *story) name(what string) string {
	return s.run + "." + what
}

// channel opens a channel; a step closes its own.
func (s *story) channel() *amqp.Channel {
	ch, err := s.conn.Channel()
	check(err, "open a channel")
	return ch
}

// exclusiveQueue declares an exclusive queue, which goes with the connection.
func (s *story) exclusiveQueue(ch *amqp.Channel, what string) string {
	queue, err := ch.QueueDeclare(s.name(what), false, false, true, false, nil)
	check(err, "declare an exclusive queue")
	return queue.Name
}

// publish sends a message and waits until the broker has confirmed it.
func publish(ch *amqp.Channel, exchange, key string, message amqp.Publishing) {
	check(ch.Confirm(false), "confirm.select")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	confirmation, err := ch.PublishWithDeferredConfirmWithContext(ctx, exchange, key, false, false, message)
	check(err, "publish")
	acked, err := confirmation.WaitContext(ctx)
	check(err, "wait for the confirm")
	expect(acked, "the broker to ack the publish")
}

// publishTexts publishes one message per text to a queue.
func publishTexts(ch *amqp.Channel, queue string, texts ...string) {
	for _, body := range texts {
		publish(ch, "", queue, text(body))
	}
}

func text(body string) amqp.Publishing {
	return amqp.Publishing{ContentType: "text/plain", Body: []byte(body)}
}

// consume starts a consumer that acknowledges by hand.
func consume(ch *amqp.Channel, queue, tag string) <-chan amqp.Delivery {
	deliveries, err := ch.Consume(queue, tag, false, false, false, false, nil)
	check(err, "consume")
	return deliveries
}

// receive waits for whatever a Go channel brings next.
func receive[T any](from <-chan T, what string) T {
	select {
	case value, open := <-from:
		expect(open, what+", but its channel was closed")
		return value
	case <-time.After(patience):
		panic(fmt.Sprintf("expected %s in %v", what, patience))
	}
}

// receiveText waits for a delivery with this body.
func receiveText(from <-chan amqp.Delivery, body string) amqp.Delivery {
	delivery := receive(from, "a delivery of "+body)
	equal("body", string(delivery.Body), body)
	return delivery
}

// getText takes a message with this body off the queue, unacknowledged.
func getText(ch *amqp.Channel, queue, body string) amqp.Delivery {
	delivery, found, err := ch.Get(queue, false)
	check(err, "get")
	expect(found, "a message "+body+" in the queue")
	equal("body", string(delivery.Body), body)
	return delivery
}

// counts asks the broker for the ready messages of a queue.
func counts(ch *amqp.Channel, queue string, messages int) {
	declared, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	check(err, "declare passively")
	equal("messages in "+queue, declared.Messages, messages)
}

func deleteQueue(ch *amqp.Channel, queue string) int {
	purged, err := ch.QueueDelete(queue, false, false, false)
	check(err, "delete a queue")
	return purged
}

func deleteExchange(ch *amqp.Channel, exchange string) {
	check(ch.ExchangeDelete(exchange, false, false), "delete an exchange")
}

// refused checks that the operation failed with the reply code and text.
func refused(err error, code int, reason string) {
	var amqpError *amqp.Error
	if !errors.As(err, &amqpError) {
		fail("expected an AMQP error %d, got %v", code, err)
	}
	equal("reply code", amqpError.Code, code)
	equal("reply text", amqpError.Reason, reason)
}

func check(err error, doing string) {
	if err != nil {
		fail("could not %s: %v", doing, err)
	}
}

func equal(what string, got, want any) {
	if !reflect.DeepEqual(got, want) {
		fail("%s: expected %#v, got %#v", what, want, got)
	}
}

func expect(truth bool, what string) {
	if !truth {
		fail("expected %s", what)
	}
}

// fail ends the step.
func fail(format string, values ...any) {
	panic(fmt.Sprintf(format, values...))
}
