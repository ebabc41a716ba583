import assert from 'node:assert/strict';
import amqp from 'amqplib';
import { consume, counts, publish, publishTexts, refused, take } from './session.js';

export async function declareExchanges(session) {
  await session.withChannel(async (channel) => {
    for (const type of ['direct', 'fanout', 'topic', 'headers']) {
      const name = session.name(type);
      await channel.assertExchange(name, type);
      await channel.assertExchange(name, type);
      await channel.checkExchange(name);
      await channel.checkExchange(`amq.${type}`);
      await channel.deleteExchange(name);
    }
    // One that goes with its last binding, and one nobody may publish to.
    const autoDelete = session.name('auto-delete');
    const internal = session.name('internal');
    await channel.assertExchange(autoDelete, 'fanout', { autoDelete: true, durable: false });
    await channel.assertExchange(internal, 'fanout', { internal: true, durable: false });
    await channel.bindExchange(internal, autoDelete, '');
    await channel.unbindExchange(internal, autoDelete, '');
    await channel.deleteExchange(internal);
    const other = await session.channel();
    await refused(other.checkExchange(autoDelete), 404, `NOT_FOUND - no exchange '${autoDelete}' in vhost '/'`);
  });
}

export async function declareQueues(session) {
  await session.withChannel(async (channel) => {
    const durable = session.name('durable');
    await channel.assertQueue(durable);
    const again = await channel.assertQueue(durable);
    assert.deepEqual(again, { queue: durable, messageCount: 0, consumerCount: 0 });
    assert.deepEqual(await channel.deleteQueue(durable), { messageCount: 0 });

    const serverNamed = await channel.assertQueue('', { exclusive: true });
    assert.match(serverNamed.queue, /^amq\.gen-/);

    await exclusiveQueueIsLocked(session);

    const { queue: autoDelete } = await channel.assertQueue(session.name('auto-delete'), { autoDelete: true });
    const { consumerTag } = await consume(channel, autoDelete);
    await channel.cancel(consumerTag);
    const other = await session.channel();
    await refused(other.checkQueue(autoDelete), 404, `NOT_FOUND - no queue '${autoDelete}' in vhost '/'`);
  });
}

// Other connections get 405, and the queue goes with its connection.
async function exclusiveQueueIsLocked(session) {
  const owner = await amqp.connect(session.uri);
  const queue = await session.exclusiveQueue(await owner.createChannel(), 'exclusive');
  let channel = await session.channel();
  await refused(
    channel.checkQueue(queue),
    405,
    `RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '${queue}' in vhost '/'. It could be ` +
      'originally declared on another connection or the exclusive property value does not match that of the ' +
      'original declaration.',
  );
  await owner.close();
  channel = await session.channel();
  await refused(channel.checkQueue(queue), 404, `NOT_FOUND - no queue '${queue}' in vhost '/'`);
}

const keys = (...routingKeys) => routingKeys.map((key) => ({ key }));
const headers = (...tables) => tables.map((table) => ({ key: '', headers: table }));

const bindings = [
  { type: 'direct', key: 'black', routed: keys('black'), unrouted: keys('white', '') },
  { type: 'fanout', key: 'any', routed: keys('any', 'other', ''), unrouted: [] },
  {
    type: 'topic',
    key: '*.orange.*',
    routed: keys('quick.orange.rabbit'),
    unrouted: keys('orange', 'quick.orange', 'quick.orange.male.rabbit'),
  },
  {
    type: 'topic',
    key: 'lazy.#',
    routed: keys('lazy', 'lazy.brown.fox', 'lazy.orange.male.rabbit'),
    unrouted: keys('quick.lazy', 'lazier'),
  },
  { type: 'topic', key: '#.rabbit', routed: keys('rabbit', 'quick.orange.rabbit'), unrouted: keys('rabbit.hole') },
  {
    type: 'headers',
    key: '',
    args: { 'x-match': 'all', colour: 'orange', legs: 4 },
    routed: headers(
      { colour: 'orange', legs: 4, more: true },
      { colour: 'orange', legs: { '!': 'long', value: 4 } },
    ),
    unrouted: headers({ colour: 'orange' }, { colour: 'orange', legs: 3 }),
  },
  {
    type: 'headers',
    key: '',
    args: { 'x-match': 'any', colour: 'orange', legs: 4 },
    routed: headers({ colour: 'orange' }, { colour: 'white', legs: 4 }),
    unrouted: headers({ colour: 'white' }, {}),
  },
];

export async function bindAndRoute(session) {
  await session.withChannel(async (channel) => {
    const queue = await session.exclusiveQueue(channel, 'bound');
    for (const binding of bindings) {
      await route(session, channel, queue, binding);
    }
    await exchangeToExchange(session, channel, queue);
  });
}

async function route(session, channel, queue, { type, key, args, routed, unrouted }) {
  const { exchange } = await channel.assertExchange(session.name(type), type, { durable: false });
  const send = (message) => publish(channel, exchange, message.key, message.key, { headers: message.headers });
  await channel.bindQueue(queue, exchange, key, args);
  for (const message of [...routed, ...unrouted]) {
    await send(message);
  }
  await counts(channel, queue, routed.length);
  for (const message of routed) {
    const got = await take(channel, queue, message.key);
    assert.equal(got.fields.exchange, exchange);
    assert.equal(got.fields.routingKey, message.key);
    channel.ack(got);
  }
  await channel.unbindQueue(queue, exchange, key, args);
  await send(routed[0]);
  await counts(channel, queue, 0);
  await channel.deleteExchange(exchange);
}

async function exchangeToExchange(session, channel, queue) {
  const source = session.name('source');
  const destination = session.name('destination');
  await channel.assertExchange(source, 'topic', { durable: false });
  await channel.assertExchange(destination, 'fanout', { durable: false });
  await channel.bindExchange(destination, source, 'a.*');
  await channel.bindQueue(queue, destination, '');
  await publish(channel, source, 'b.c', 'no');
  await publish(channel, source, 'a.b', 'yes');
  const got = await take(channel, queue, 'yes');
  assert.equal(got.fields.exchange, source);
  await counts(channel, queue, 0);
  await channel.deleteExchange(destination);
  await channel.deleteExchange(source);
}

export async function alternateExchange(session) {
  await session.withChannel(async (channel) => {
    const alternate = session.name('alternate');
    const main = session.name('main');
    await channel.assertExchange(alternate, 'fanout', { durable: false });
    await channel.assertExchange(main, 'direct', { durable: false, alternateExchange: alternate });
    const unrouted = await session.exclusiveQueue(channel, 'unrouted');
    await channel.bindQueue(unrouted, alternate, '');
    await publish(channel, main, 'nobody', 'lost and found');
    const got = await take(channel, unrouted, 'lost and found');
    assert.equal(got.fields.exchange, main);
    assert.equal(got.fields.routingKey, 'nobody');
    await channel.deleteExchange(main);
    await channel.deleteExchange(alternate);
  });
}

export async function ccHeader(session) {
  await session.withChannel(async (channel) => {
    const to = await session.exclusiveQueue(channel, 'to');
    const cc = await session.exclusiveQueue(channel, 'cc');
    const bcc = await session.exclusiveQueue(channel, 'bcc');
    await publish(channel, '', to, 'to all', { CC: cc, BCC: [bcc] });
    for (const queue of [to, cc, bcc]) {
      const got = await take(channel, queue, 'to all');
      assert.equal(got.fields.routingKey, to);
      assert.deepEqual(got.properties.headers, { CC: [cc] });
    }
  });
}

export async function purge(session) {
  await session.withChannel(async (channel) => {
    const queue = await session.exclusiveQueue(channel, 'purged');
    await publishTexts(channel, queue, 'a', 'b', 'c');
    const held = await take(channel, queue, 'a');
    assert.deepEqual(await channel.purgeQueue(queue), { messageCount: 2 });
    await counts(channel, queue, 0);
    // What was handed out is not purged.
    channel.nack(held);
    await take(channel, queue, 'a');
  });
}

export async function deleteConditions(session) {
  await session.withChannel(async (channel) => {
    const { queue } = await channel.assertQueue(session.name('kept'));
    await publishTexts(channel, queue, 'a');
    // Channels are not ordered among each other: the message is there before another one asks.
    await counts(channel, queue, 1);
    let other = await session.channel();
    await refused(
      other.deleteQueue(queue, { ifEmpty: true }),
      406,
      `PRECONDITION_FAILED - queue '${queue}' in vhost '/' not empty`,
    );

    const consumer = await session.channel();
    await consume(consumer, queue);
    other = await session.channel();
    await refused(
      other.deleteQueue(queue, { ifUnused: true }),
      406,
      `PRECONDITION_FAILED - queue '${queue}' in vhost '/' in use`,
    );
    await consumer.close();

    const { exchange } = await channel.assertExchange(session.name('used'), 'fanout', { durable: false });
    await channel.bindQueue(queue, exchange, '');
    other = await session.channel();
    await refused(
      other.deleteExchange(exchange, { ifUnused: true }),
      406,
      `PRECONDITION_FAILED - exchange '${exchange}' in vhost '/' in use`,
    );
    await channel.deleteExchange(exchange);
    assert.deepEqual(await channel.deleteQueue(queue), { messageCount: 1 });
  });
}
