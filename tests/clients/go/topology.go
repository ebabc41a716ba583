package main

import (
	"fmt"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

func declareExchanges(s *story) {
	ch := s.channel()
	defer ch.Close()
	for _, kind := range []string{"direct", "fanout", "topic", "headers"} {
		name := s.name(kind)
		check(ch.ExchangeDeclare(name, kind, true, false, false, false, nil), "declare "+kind)
		check(ch.ExchangeDeclare(name, kind, true, false, false, false, nil), "declare it again")
		check(ch.ExchangeDeclarePassive(name, kind, true, false, false, false, nil), "declare it passively")
		check(ch.ExchangeDeclarePassive("amq."+kind, kind, true, false, false, false, nil), "find amq."+kind)
		deleteExchange(ch, name)
	}
	// One that goes with its last binding, and one nobody may publish to.
	autoDelete, internal := s.name("auto-delete"), s.name("internal")
	check(ch.ExchangeDeclare(autoDelete, "fanout", false, true, false, false, nil), "declare auto-delete")
	check(ch.ExchangeDeclare(internal, "fanout", false, false, true, false, nil), "declare internal")
	check(ch.ExchangeBind(internal, "", autoDelete, false, nil), "bind exchange to exchange")
	check(ch.ExchangeUnbind(internal, "", autoDelete, false, nil), "unbind exchange from exchange")
	deleteExchange(ch, internal)
	err := ch.ExchangeDeclarePassive(autoDelete, "fanout", false, true, false, false, nil)
	refused(err, amqp.NotFound, fmt.Sprintf("NOT_FOUND - no exchange '%s' in vhost '/'", autoDelete))
}

func declareQueues(s *story) {
	ch := s.channel()
	defer ch.Close()
	durable, err := ch.QueueDeclare(s.name("durable"), true, false, false, false, nil)
	check(err, "declare a durable queue")
	equal("declared", durable, amqp.Queue{Name: s.name("durable")})
	_, err = ch.QueueDeclare(durable.Name, true, false, false, false, nil)
	check(err, "declare it again")
	equal("messages deleted with the queue", deleteQueue(ch, durable.Name), 0)

	named, err := ch.QueueDeclare("", false, false, true, false, nil)
	check(err, "declare a server-named queue")
	expect(strings.HasPrefix(named.Name, "amq.gen-"), "a name amq.gen-..., got "+named.Name)

	exclusiveQueueIsLocked(s)

	autoDelete, err := ch.QueueDeclare(s.name("auto-delete"), true, true, false, false, nil)
	check(err, "declare an auto-delete queue")
	consume(ch, autoDelete.Name, "last")
	check(ch.Cancel("last", false), "cancel")
	_, err = ch.QueueDeclarePassive(autoDelete.Name, true, true, false, false, nil)
	refused(err, amqp.NotFound, fmt.Sprintf("NOT_FOUND - no queue '%s' in vhost '/'", autoDelete.Name))
}

// exclusiveQueueIsLocked: other connections get 405, and the queue goes with its connection.
func exclusiveQueueIsLocked(s *story) {
	owner, err := amqp.Dial(s.uri)
	check(err, "connect")
	ownersChannel, err := owner.Channel()
	check(err, "open a channel")
	queue := s.exclusiveQueue(ownersChannel, "exclusive")

	ch := s.channel()
	_, err = ch.QueueDeclarePassive(queue, false, false, true, false, nil)
	refused(err, amqp.ResourceLocked, fmt.Sprintf("RESOURCE_LOCKED - cannot obtain exclusive access to locked "+
		"queue '%s' in vhost '/'. It could be originally declared on another connection or the exclusive "+
		"property value does not match that of the original declaration.", queue))

	check(owner.Close(), "close the owner")
	ch = s.channel()
	_, err = ch.QueueDeclarePassive(queue, false, false, true, false, nil)
	refused(err, amqp.NotFound, fmt.Sprintf("NOT_FOUND - no queue '%s' in vhost '/'", queue))
}

func bindAndRoute(s *story) {
	ch := s.channel()
	defer ch.Close()
	bindings := []struct {
		kind     string
		key      string
		args     amqp.Table
		routed   []amqp.Publishing
		unrouted []amqp.Publishing
	}{
		{kind: "direct", key: "black", routed: keys("black"), unrouted: keys("white", "")},
		{kind: "fanout", key: "any", routed: keys("any", "other", "")},
		{kind: "topic", key: "*.orange.*", routed: keys("quick.orange.rabbit"),
			unrouted: keys("orange", "quick.orange", "quick.orange.male.rabbit")},
		{kind: "topic", key: "lazy.#", routed: keys("lazy", "lazy.brown.fox", "lazy.orange.male.rabbit"),
			unrouted: keys("quick.lazy", "lazier")},
		{kind: "topic", key: "#.rabbit", routed: keys("rabbit", "quick.orange.rabbit"), unrouted: keys("rabbit.hole")},
		{kind: "headers", args: amqp.Table{"x-match": "all", "colour": "orange", "legs": int32(4)},
			routed: headers(amqp.Table{"colour": "orange", "legs": int32(4), "more": true},
				amqp.Table{"colour": "orange", "legs": int64(4)}),
			unrouted: headers(amqp.Table{"colour": "orange"}, amqp.Table{"colour": "orange", "legs": int32(3)})},
		{kind: "headers", args: amqp.Table{"x-match": "any", "colour": "orange", "legs": int32(4)},
			routed:   headers(amqp.Table{"colour": "orange"}, amqp.Table{"colour": "white", "legs": int32(4)}),
			unrouted: headers(amqp.Table{"colour": "white"}, nil)},
	}
	queue := s.exclusiveQueue(ch, "bound")
	for _, binding := range bindings {
		exchange := s.name(binding.kind)
		check(ch.ExchangeDeclare(exchange, binding.kind, false, false, false, false, nil), "declare "+binding.kind)
		check(ch.QueueBind(queue, binding.key, exchange, false, binding.args), "bind")
		for _, message := range append(binding.routed, binding.unrouted...) {
			// The routing key rides in the body, see keys.
			publish(ch, exchange, string(message.Body), message)
		}
		counts(ch, queue, len(binding.routed))
		for _, message := range binding.routed {
			delivery := getText(ch, queue, string(message.Body))
			equal("exchange", delivery.Exchange, exchange)
			equal("routing key", delivery.RoutingKey, string(message.Body))
			check(delivery.Ack(false), "ack")
		}
		check(ch.QueueUnbind(queue, binding.key, exchange, binding.args), "unbind")
		publish(ch, exchange, string(binding.routed[0].Body), binding.routed[0])
		counts(ch, queue, 0)
		deleteExchange(ch, exchange)
	}
	exchangeToExchange(s, ch, queue)
}

func exchangeToExchange(s *story, ch *amqp.Channel, queue string) {
	source, destination := s.name("source"), s.name("destination")
	check(ch.ExchangeDeclare(source, "topic", false, false, false, false, nil), "declare the source")
	check(ch.ExchangeDeclare(destination, "fanout", false, false, false, false, nil), "declare the destination")
	check(ch.ExchangeBind(destination, "a.*", source, false, nil), "bind exchange to exchange")
	check(ch.QueueBind(queue, "", destination, false, nil), "bind the queue")
	publish(ch, source, "b.c", text("no"))
	publish(ch, source, "a.b", text("yes"))
	delivery := getText(ch, queue, "yes")
	equal("exchange", delivery.Exchange, source)
	counts(ch, queue, 0)
	deleteExchange(ch, destination)
	deleteExchange(ch, source)
}

// keys makes messages that are to be published with the routing key in their body.
func keys(routingKeys ...string) (messages []amqp.Publishing) {
	for _, key := range routingKeys {
		messages = append(messages, text(key))
	}
	return messages
}

func headers(tables ...amqp.Table) (messages []amqp.Publishing) {
	for _, table := range tables {
		messages = append(messages, amqp.Publishing{Headers: table})
	}
	return messages
}

func alternateExchange(s *story) {
	ch := s.channel()
	defer ch.Close()
	alternate, main := s.name("alternate"), s.name("main")
	check(ch.ExchangeDeclare(alternate, "fanout", false, false, false, false, nil), "declare the alternate")
	args := amqp.Table{"alternate-exchange": alternate}
	check(ch.ExchangeDeclare(main, "direct", false, false, false, false, args), "declare the main exchange")
	unrouted := s.exclusiveQueue(ch, "unrouted")
	check(ch.QueueBind(unrouted, "", alternate, false, nil), "bind")
	publish(ch, main, "nobody", text("lost and found"))
	delivery := getText(ch, unrouted, "lost and found")
	equal("exchange", delivery.Exchange, main)
	equal("routing key", delivery.RoutingKey, "nobody")
	deleteExchange(ch, main)
	deleteExchange(ch, alternate)
}

func ccHeader(s *story) {
	ch := s.channel()
	defer ch.Close()
	to, cc, bcc := s.exclusiveQueue(ch, "to"), s.exclusiveQueue(ch, "cc"), s.exclusiveQueue(ch, "bcc")
	publish(ch, "", to, amqp.Publishing{
		Headers: amqp.Table{"CC": []any{cc}, "BCC": []any{bcc}},
		Body:    []byte("to all"),
	})
	for _, queue := range []string{to, cc, bcc} {
		delivery := getText(ch, queue, "to all")
		equal("routing key", delivery.RoutingKey, to)
		equal("headers without BCC", delivery.Headers, amqp.Table{"CC": []any{cc}})
	}
}

func purge(s *story) {
	ch := s.channel()
	defer ch.Close()
	queue := s.exclusiveQueue(ch, "purged")
	publishTexts(ch, queue, "a", "b", "c")
	held := getText(ch, queue, "a")
	purged, err := ch.QueuePurge(queue, false)
	check(err, "purge")
	equal("purged", purged, 2)
	counts(ch, queue, 0)
	// What was handed out is not purged.
	check(held.Nack(false, true), "nack")
	getText(ch, queue, "a")
}

func deleteConditions(s *story) {
	ch := s.channel()
	queue, err := ch.QueueDeclare(s.name("kept"), true, false, false, false, nil)
	check(err, "declare")
	publishTexts(ch, queue.Name, "a")
	_, err = ch.QueueDelete(queue.Name, false, true, false)
	refused(err, amqp.PreconditionFailed, fmt.Sprintf("PRECONDITION_FAILED - queue '%s' in vhost '/' not empty", queue.Name))

	consumer := s.channel()
	consume(consumer, queue.Name, "")
	ch = s.channel()
	_, err = ch.QueueDelete(queue.Name, true, false, false)
	refused(err, amqp.PreconditionFailed, fmt.Sprintf("PRECONDITION_FAILED - queue '%s' in vhost '/' in use", queue.Name))

	ch = s.channel()
	exchange := s.name("used")
	check(ch.ExchangeDeclare(exchange, "fanout", false, false, false, false, nil), "declare")
	check(ch.QueueBind(queue.Name, "", exchange, false, nil), "bind")
	err = ch.ExchangeDelete(exchange, true, false)
	refused(err, amqp.PreconditionFailed, fmt.Sprintf("PRECONDITION_FAILED - exchange '%s' in vhost '/' in use", exchange))

	check(consumer.Close(), "close the consumer's channel")
	ch = s.channel()
	defer ch.Close()
	deleteExchange(ch, exchange)
	equal("messages deleted with the queue", deleteQueue(ch, queue.Name), 1)
}
