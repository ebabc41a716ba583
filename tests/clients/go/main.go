// The story of a broker's user, told with amqp091-go: every step is a function that checks what it sees; the first one
// that fails ends the program. `story jobs` tells that of a job queue instead, and tries all its steps; those named after
// `--without` are left out. AMQP_URI names the broker.
package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"

	amqp "github.com/rabbitmq/amqp091-go"
)

type step struct {
	name string
	run  func(*story)
}

var steps = []step{
	{"connect", connect},
	{"declare_exchanges", declareExchanges},
	{"declare_queues", declareQueues},
	{"bind_and_route", bindAndRoute},
	{"properties", properties},
	{"acknowledgements", acknowledgements},
	{"prefetch", prefetch},
	{"confirms", confirms},
	{"mandatory_return", mandatoryReturn},
	{"transactions", transactions},
	{"get", get},
	{"rpc_direct_reply_to", rpcDirectReplyTo},
	{"large_body", largeBody},
	{"server_sent_cancel", serverSentCancel},
	{"channel_errors", channelErrors},
	{"wrong_password", wrongPassword},
	{"heartbeats", heartbeats},
	{"alternate_exchange", alternateExchange},
	{"cc_header", ccHeader},
	{"consumer_tags", consumerTags},
	{"purge", purge},
	{"delete_conditions", deleteConditions},
	{"exclusive_consumer", exclusiveConsumer},
	{"recover", recoverUnacked},
}

func main() {
	// Short, for the broker cuts a reply text after 255 characters.
	s := &story{uri: os.Getenv("AMQP_URI"), run: fmt.Sprintf("go-%08x", rand.Uint32())}
	conn, err := amqp.Dial(s.uri)
	check(err, "connect")
	s.conn = conn
	failed := 0
	if len(os.Args) > 1 && os.Args[1] == "jobs" {
		for _, step := range jobSteps {
			if !slices.Contains(os.Args[2:], "--without="+step.name) && !s.try(step) {
				failed++
			}
		}
	} else {
		for _, step := range steps {
			if !s.try(step) {
				os.Exit(1)
			}
		}
	}
	check(conn.Close(), "close the connection")
	if failed > 0 {
		os.Exit(1)
	}
}

// try runs a step, and says how it ended.
func (s *story) try(step step) (succeeded bool) {
	defer func() {
		if cause := recover(); cause != nil {
			fmt.Fprintf(os.Stderr, "FAILED %s: %v\n", step.name, cause)
			debug.PrintStack()
		}
	}()
	step.run(s)
	fmt.Println("ok", step.name)
	return true
}

func connect(s *story) {
	equal("product", s.conn.Properties["product"], "RabbitMQ")
	equal("negotiated version", fmt.Sprint(s.conn.Major, ".", s.conn.Minor), "0.9")
	capabilities, isTable := s.conn.Properties["capabilities"].(amqp.Table)
	expect(isTable, "capabilities to be a table")
	for _, name := range []string{
		"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
		"connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos",
		"direct_reply_to",
	} {
		equal("capability "+name, capabilities[name], true)
	}
	ch := s.channel()
	check(ch.Close(), "close a channel")
}
