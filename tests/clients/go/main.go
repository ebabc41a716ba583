// The story of a broker's user, told with amqp091-go: every step is a function that checks what it sees and
// ends the program at the first thing that is not as expected. AMQP_URI names the broker.
package main

import (
	"fmt"
	"math/rand/v2"
	"os"

	amqp "github.com/rabbitmq/amqp091-go"
)

var steps = []struct {
	name string
	run  func(*story)
}{
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
	for _, step := range steps {
		step.run(s)
		fmt.Println("ok", step.name)
	}
	check(conn.Close(), "close the connection")
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
