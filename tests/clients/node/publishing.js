import assert from 'node:assert/strict';
import { Inbox, consume, counts, publish, publishTexts } from './session.js';

// Every type amqplib can write into a table, as it is written and as it is read.
const typed = (type, value) => ({ '!': type, value });
const timestamp = typed('timestamp', 1_700_000_000);
const decimal = typed('decimal', { places: 2, digits: 31415 });
const headersOfEveryType = [
  ['boolean', true, true],
  ['int8', typed('int8', -8), -8],
  ['uint8', typed('uint8', 200), 200],
  ['int16', typed('int16', -1600), -1600],
  ['uint16', typed('uint16', 60_000), 60_000],
  ['int32', typed('int32', -320_000), -320_000],
  ['uint32', typed('uint32', 4_000_000_000), 4_000_000_000],
  ['int64', typed('int64', -6_400_000_000), -6_400_000_000],
  ['float', typed('float', 1.5), 1.5],
  ['double', 2.25, 2.25],
  ['decimal', decimal, decimal],
  ['string', 'žluťoučký kůň', 'žluťoučký kůň'],
  ['bytes', Buffer.from([0, 255, 206]), Buffer.from([0, 255, 206])],
  ['timestamp', timestamp, timestamp],
  ['void', null, null],
  ['array', ['one', 2, { three: typed('long', 3) }, [false]], ['one', 2, { three: 3 }, [false]]],
  ['table', { inner: { innermost: 'deep' }, empty: {} }, { inner: { innermost: 'deep' }, empty: {} }],
];

export async function properties(session) {
  await session.withChannel(async (channel) => {
    const queue = await session.exclusiveQueue(channel, 'properties');
    // All but the cluster-id, which amqplib does not write.
    const sent = {
      contentType: 'application/octet-stream',
      contentEncoding: 'gzip',
      deliveryMode: 2,
      priority: 7,
      correlationId: 'correlation',
      replyTo: 'reply.here',
      expiration: '60000',
      messageId: 'message-1',
      timestamp: 1_700_000_000,
      type: 'a.type',
      userId: 'guest',
      appId: 'story',
    };
    const headers = Object.fromEntries(headersOfEveryType.map(([name, written]) => [name, written]));
    const body = Buffer.from([0, 1, 2, 254, 255]);
    await publish(channel, '', queue, body, { ...sent, headers });

    const { inbox } = await consume(channel, queue);
    const got = await inbox.next('the message');
    const { headers: gotHeaders, ...gotProperties } = got.properties;
    for (const [name, , read] of headersOfEveryType) {
      assert.deepEqual(gotHeaders[name], read, `header ${name}`);
    }
    assert.equal(Object.keys(gotHeaders).length, headersOfEveryType.length);
    assert.deepEqual(gotProperties, { ...sent, clusterId: undefined });
    assert.deepEqual(got.content, body);

    // Properties that were not set do not appear.
    await publish(channel, '', queue, '');
    const bare = await inbox.next('the bare message');
    assert.deepEqual(Object.values(bare.properties).filter((value) => value !== undefined), [{}]);
    assert.equal(bare.content.length, 0);
  });
}

export async function largeBody(session) {
  await session.withChannel(async (channel) => {
    const queue = await session.exclusiveQueue(channel, 'large');
    const body = Buffer.alloc(5 * 1024 * 1024);
    for (let i = 0; i < body.length; i++) {
      body[i] = (i * 31) >> 3;
    }
    await publish(channel, '', queue, body);
    const { inbox } = await consume(channel, queue);
    const got = await inbox.next('the large message');
    assert.equal(got.content.length, body.length);
    assert.ok(got.content.equals(body), 'expected the large body to come back as it was');
    channel.ack(got);
  });
}

export async function confirms(session) {
  await session.withChannel(async (channel) => {
    const queue = await session.exclusiveQueue(channel, 'confirmed');
    await publishTexts(channel, queue, 'alone');

    // The library spreads a `multiple` ack over all the callbacks it is about.
    const count = 1000;
    const sequences = [];
    channel.on('ack', ({ deliveryTag, multiple }) => sequences.push({ deliveryTag, multiple }));
    const confirmed = Array.from({ length: count }, (_, i) => {
      return new Promise((resolve, reject) => {
        channel.sendToQueue(queue, Buffer.from(`message ${i}`), { persistent: true }, (error) => {
          return error ? reject(error) : resolve();
        });
      });
    });
    await Promise.all(confirmed);
    const highest = Math.max(...sequences.map(({ deliveryTag }) => deliveryTag));
    assert.equal(highest, 1 + count, 'the highest sequence number confirmed');
    await counts(channel, queue, 1 + count);

    // A message nobody wants is confirmed as well.
    await publish(channel, 'amq.direct', session.name('nowhere'), 'nobody');
  });
}

export async function mandatoryReturn(session) {
  await session.withChannel(async (channel) => {
    const events = new Inbox();
    channel.on('return', (message) => events.put(['return', message]));
    channel.on('ack', (ack) => events.put(['confirm', ack]));
    const nowhere = session.name('nowhere');
    const options = { mandatory: true, messageId: 'returned-1' };
    channel.publish('amq.direct', nowhere, Buffer.from('come back'), options);
    const [first, returned] = await events.next('a return');
    assert.equal(first, 'return', 'expected the return before the confirm');
    assert.deepEqual(returned.fields, {
      replyCode: 312,
      replyText: 'NO_ROUTE',
      exchange: 'amq.direct',
      routingKey: nowhere,
    });
    assert.equal(returned.properties.messageId, 'returned-1');
    assert.equal(returned.content.toString(), 'come back');
    const [second, confirm] = await events.next('a confirm');
    assert.equal(second, 'confirm');
    assert.equal(confirm.deliveryTag, 1);
  });
}

export async function rpcDirectReplyTo(session) {
  await session.withChannel(async (server) => {
    const queue = await session.exclusiveQueue(server, 'rpc');
    const replyTos = [];
    await server.consume(
      queue,
      ({ content, properties: { replyTo, correlationId } }) => {
        replyTos.push(replyTo);
        server.sendToQueue(replyTo, Buffer.from(`answer to ${content}`), { correlationId });
      },
      { noAck: true },
    );
    await session.withChannel(async (channel) => {
      const replyTo = 'amq.rabbitmq.reply-to';
      const { inbox } = await consume(channel, replyTo, { noAck: true });
      for (const correlationId of ['0', '1', '2']) {
        channel.sendToQueue(queue, Buffer.from(`question ${correlationId}`), { replyTo, correlationId });
        const reply = await inbox.nextText(`answer to question ${correlationId}`);
        assert.equal(reply.properties.correlationId, correlationId);
        assert.match(replyTos.at(-1), /^amq\.rabbitmq\.reply-to\../);
      }
    });
  });
}
