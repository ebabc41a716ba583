package main

import (
	"fmt"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The steps of a job queue: pools of workers, jobs that are tried again later, and those that are given up.
var jobSteps = []step{
	{"pool_of_workers", poolOfWorkers},
	{"consumer_priorities", consumerPriorities},
	{"lost_worker", lostWorker},
	{"retries_then_dead", retriesThenDead},
	{"consistent_hash", consistentHash},
	{"consistent_hash_of_a_header", consistentHashOfAHeader},
	{"unique_jobs", uniqueJobs},
}

// backoff is how long the second, third and fourth attempt wait.
var backoff = []time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 300 * time.Millisecond}

// poolOfWorkers shares one channel among goroutines that work at once, as many as the prefetch.
func poolOfWorkers(s *story) {
	const workers, jobs = 4, 40
	ch := s.channel()
	defer ch.Close()
	queue := s.exclusiveQueue(ch, "pool")
	working := s.channel()
	defer working.Close()
	check(working.Qos(workers, 0, false), "set the prefetch")
	deliveries := consume(working, queue, "pool")
	done := make(chan string, jobs)
	started, release := make(chan struct{}, jobs), make(chan struct{})
	for range workers {
		go func() {
			for delivery := range deliveries {
				started <- struct{}{}
				<-release
				if delivery.Ack(false) == nil {
					done <- string(delivery.Body)
				}
			}
		}()
	}
	for number := range jobs {
		publishTexts(ch, queue, fmt.Sprint(number))
	}
	for range workers {
		receive(started, "a worker to begin")
	}
	// All workers hold one, so the rest waits in the broker.
	counts(ch, queue, jobs-workers)
	close(release)
	seen := map[string]bool{}
	for range jobs {
		job := receive(done, "a job to be done")
		expect(!seen[job], "job "+job+" to be done once")
		seen[job] = true
	}
	counts(ch, queue, 0)
}

// consumerPriorities has workers that help out only when the better ones are busy.
func consumerPriorities(s *story) {
	ch := s.channel()
	defer ch.Close()
	queue := s.exclusiveQueue(ch, "by-priority")
	low, high := consumeWithPriority(s, queue, -1), consumeWithPriority(s, queue, 10)
	publishTexts(ch, queue, "a", "b", "c", "d")
	a := receiveText(high, "a")
	receiveText(high, "b")
	c := receiveText(low, "c")
	receiveText(low, "d")
	publishTexts(ch, queue, "e")
	counts(ch, queue, 1)
	// Whoever has room gets it; both have after that, and the better one is asked.
	check(c.Ack(false), "ack")
	receiveText(low, "e")
	check(a.Ack(false), "ack")
	publishTexts(ch, queue, "f")
	receiveText(high, "f")
}

// consumeWithPriority starts a worker of its own channel that takes two jobs at once.
func consumeWithPriority(s *story, queue string, priority int) <-chan amqp.Delivery {
	ch := s.channel()
	check(ch.Qos(2, 0, false), "set the prefetch")
	deliveries, err := ch.Consume(queue, "", false, false, false, false, amqp.Table{"x-priority": priority})
	check(err, "consume")
	return deliveries
}

// lostWorker has a worker whose connection is cut with jobs in its hands.
func lostWorker(s *story) {
	ch := s.channel()
	defer ch.Close()
	queue, err := ch.QueueDeclare(s.name("lost"), false, false, false, false, amqp.Table{"x-expires": 60000})
	check(err, "declare a queue")
	defer ch.QueueDelete(queue.Name, false, false, false)
	var cable net.Conn
	doomed, err := amqp.DialConfig(s.uri, amqp.Config{Dial: func(network, address string) (net.Conn, error) {
		dialed, err := amqp.DefaultDial(patience)(network, address)
		cable = dialed
		return dialed, err
	}})
	check(err, "connect")
	worker, err := doomed.Channel()
	check(err, "open a channel")
	check(worker.Qos(2, 0, false), "set the prefetch")
	deliveries := consume(worker, queue.Name, "doomed")
	publishTexts(ch, queue.Name, "a", "b", "c")
	receiveText(deliveries, "a")
	receiveText(deliveries, "b")
	check(cable.Close(), "cut the connection")
	waitForCount(ch, queue.Name, 3)
	next := consume(ch, queue.Name, "next")
	for _, body := range []string{"a", "b", "c"} {
		delivery := receiveText(next, body)
		equal("redelivered, of "+body, delivery.Redelivered, body != "c")
		check(delivery.Ack(false), "ack")
	}
}

// waitForCount waits until so many messages are ready.
func waitForCount(ch *amqp.Channel, queue string, messages int) {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		declared, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		check(err, "declare passively")
		if declared.Messages == messages {
			return
		}
		expect(time.Now().Before(deadline), fmt.Sprint(messages, " messages in ", queue, ", got ", declared.Messages))
	}
}

// retriesThenDead lets a job fail until it is given up: each attempt waits longer, the last one is a dead letter.
func retriesThenDead(s *story) {
	ch := s.channel()
	defer ch.Close()
	dead := s.exclusiveQueue(ch, "dead-set")
	work := declareExclusive(ch, s.name("work"), amqp.Table{
		"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead,
	})
	for attempt, delay := range backoff {
		declareExclusive(ch, retryQueue(work, attempt), amqp.Table{
			"x-message-ttl": delay.Milliseconds(), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work,
		})
	}
	working := s.channel()
	defer working.Close()
	deliveries := consume(working, work, "worker")
	began := time.Now()
	publishTexts(ch, work, "job")
	var waits time.Duration
	for attempt := range len(backoff) + 1 {
		delivery := receiveText(deliveries, "job")
		expect(time.Since(began) >= waits, fmt.Sprint("attempt ", attempt, " not before ", waits))
		if attempt == len(backoff) {
			check(delivery.Reject(false), "reject")
			break
		}
		waits += backoff[attempt]
		publish(ch, "", retryQueue(work, attempt), amqp.Publishing{Body: delivery.Body})
		check(delivery.Ack(false), "ack")
	}
	buried := receiveText(consume(ch, dead, "undertaker"), "job")
	deaths, isArray := buried.Headers["x-death"].([]any)
	expect(isArray, "x-death to be an array")
	newest := deaths[0].(amqp.Table)
	equal("why", newest["reason"], "rejected")
	equal("where", newest["queue"], work)
	equal("how often", newest["count"], int64(1))
	equal("first death", buried.Headers["x-first-death-reason"], "expired")
}

func retryQueue(work string, attempt int) string {
	return fmt.Sprint(work, ".retry.", attempt)
}

func declareExclusive(ch *amqp.Channel, name string, arguments amqp.Table) string {
	_, err := ch.QueueDeclare(name, false, false, true, false, arguments)
	check(err, "declare a queue")
	return name
}

// consistentHash spreads customers over queues: one customer is always in one queue, and few move when a queue goes.
func consistentHash(s *story) {
	const queues, customers = 4, 400
	ch := s.channel()
	defer ch.Close()
	exchange := declareHash(s, ch, "by-key", nil)
	defer deleteExchange(ch, exchange)
	var names []string
	for number := range queues {
		queue := s.exclusiveQueue(ch, fmt.Sprint("shard-", number))
		check(ch.QueueBind(queue, "10", exchange, false, nil), "bind with a weight")
		names = append(names, queue)
	}
	publishAll := func() map[string]string {
		for number := range customers {
			key := fmt.Sprint("customer-", number)
			publish(ch, exchange, key, text(key))
		}
		return drain(ch, names)
	}
	first := publishAll()
	equal("messages in all queues", len(first), customers)
	sizes := map[string]int{}
	for _, queue := range first {
		sizes[queue]++
	}
	for _, queue := range names {
		// A hundred each on average; a quarter of that would be no spread.
		expect(sizes[queue] >= 25, fmt.Sprint("a share of the messages in each queue, got ", sizes))
	}
	equal("the same customers again", publishAll(), first)
	last := names[queues-1]
	check(ch.QueueUnbind(last, "10", exchange, nil), "unbind")
	moved := 0
	for customer, queue := range publishAll() {
		if first[customer] != last && first[customer] != queue {
			moved++
		}
	}
	equal("customers of other queues that moved", moved, 0)
}

// consistentHashOfAHeader takes a header for what the routing key is else.
func consistentHashOfAHeader(s *story) {
	ch := s.channel()
	defer ch.Close()
	exchange := declareHash(s, ch, "by-header", amqp.Table{"hash-header": "customer"})
	defer deleteExchange(ch, exchange)
	var names []string
	for number := range 3 {
		queue := s.exclusiveQueue(ch, fmt.Sprint("header-shard-", number))
		check(ch.QueueBind(queue, "1", exchange, false, nil), "bind with a weight")
		names = append(names, queue)
	}
	for number := range 60 {
		publish(ch, exchange, fmt.Sprint("key-", number), amqp.Publishing{
			Headers: amqp.Table{"customer": fmt.Sprint("c", number%6)}, Body: fmt.Append(nil, "c", number%6, "/", number),
		})
	}
	shards := map[string]map[string]bool{}
	placed := drain(ch, names)
	equal("messages in all queues", len(placed), 60)
	for body, queue := range placed {
		customer := body[:2]
		if shards[customer] == nil {
			shards[customer] = map[string]bool{}
		}
		shards[customer][queue] = true
	}
	for customer, queues := range shards {
		equal("queues of customer "+customer, len(queues), 1)
	}
}

func declareHash(s *story, ch *amqp.Channel, what string, arguments amqp.Table) string {
	exchange := s.name(what)
	err := ch.ExchangeDeclare(exchange, "x-consistent-hash", false, false, false, false, arguments)
	check(err, "declare a consistent hash exchange, which in RabbitMQ is a plugin to be enabled")
	return exchange
}

// drain empties the queues; it says of each body where it was.
func drain(ch *amqp.Channel, queues []string) map[string]string {
	found := map[string]string{}
	for _, queue := range queues {
		for {
			delivery, more, err := ch.Get(queue, true)
			check(err, "get")
			if !more {
				break
			}
			found[string(delivery.Body)] = queue
		}
	}
	return found
}

// uniqueJobs pushes jobs several times at once, of which each is done once. RabbitMQ has no such thing of its own.
func uniqueJobs(s *story) {
	ch := s.channel()
	defer ch.Close()
	exchange := s.name("unique")
	arguments := amqp.Table{"x-message-deduplication": true, "x-cache-size": 100}
	check(ch.ExchangeDeclare(exchange, "direct", false, false, false, false, arguments), "declare an exchange")
	defer deleteExchange(ch, exchange)
	queue := s.exclusiveQueue(ch, "unique")
	check(ch.QueueBind(queue, "job", exchange, false, nil), "bind")
	var pushing sync.WaitGroup
	for range 3 {
		pushing.Add(1)
		pusher := s.channel()
		go func() {
			defer pushing.Done()
			defer pusher.Close()
			for number := range 20 {
				id := fmt.Sprint("job-", number)
				publish(pusher, exchange, "job", amqp.Publishing{
					Headers: amqp.Table{"x-deduplication-header": id}, Body: []byte(id),
				})
			}
		}()
	}
	pushing.Wait()
	counts(ch, queue, 20)
	publish(ch, exchange, "job", text("without an id"))
	publish(ch, exchange, "job", text("without an id"))
	counts(ch, queue, 22)
}
