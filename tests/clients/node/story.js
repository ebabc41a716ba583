// The story of a broker's user, told with amqplib: every step is a function that checks what it sees, and the
// first thing that is not as expected ends the program. AMQP_URI names the broker.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Session } from './session.js';
import * as consuming from './consuming.js';
import * as failures from './failures.js';
import * as publishing from './publishing.js';
import * as topology from './topology.js';

// amqplib has no transactions.
const steps = {
  connect,
  declare_exchanges: topology.declareExchanges,
  declare_queues: topology.declareQueues,
  bind_and_route: topology.bindAndRoute,
  properties: publishing.properties,
  acknowledgements: consuming.acknowledgements,
  prefetch: consuming.prefetch,
  confirms: publishing.confirms,
  mandatory_return: publishing.mandatoryReturn,
  get: consuming.get,
  rpc_direct_reply_to: publishing.rpcDirectReplyTo,
  large_body: publishing.largeBody,
  server_sent_cancel: consuming.serverSentCancel,
  channel_errors: failures.channelErrors,
  wrong_password: failures.wrongPassword,
  heartbeats: failures.heartbeats,
  alternate_exchange: topology.alternateExchange,
  cc_header: topology.ccHeader,
  consumer_tags: consuming.consumerTags,
  purge: topology.purge,
  delete_conditions: topology.deleteConditions,
  exclusive_consumer: consuming.exclusiveConsumer,
  recover: consuming.recover,
};

async function connect(session) {
  const { product, capabilities } = session.connection.connection.serverProperties;
  assert.equal(product, 'RabbitMQ');
  for (const name of [
    'publisher_confirms',
    'exchange_exchange_bindings',
    'basic.nack',
    'consumer_cancel_notify',
    'connection.blocked',
    'consumer_priorities',
    'authentication_failure_close',
    'per_consumer_qos',
    'direct_reply_to',
  ]) {
    assert.equal(capabilities[name], true, `capability ${name}`);
  }
  const channel = await session.channel();
  await channel.close();
}

// Short, for the broker cuts a reply text after 255 characters.
const session = await Session.open(process.env.AMQP_URI, `node-${randomBytes(4).toString('hex')}`);
for (const [name, step] of Object.entries(steps)) {
  await step(session);
  console.log(`ok ${name}`);
}
await session.connection.close();
