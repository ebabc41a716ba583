import assert from 'node:assert/strict';
import { Inbox, closedWith, consume, counts, publishTexts, refused, take } from './session.js';

export async function acknowledgements(session) {
  const channel = await session.channel();
  const queue = await session.exclusiveQueue(channel, 'acknowledged');
  await publishTexts(channel, queue, 'a', 'b', 'c', 'd', 'e');

  // Requeued, a message returns to its place.
  const first = await take(channel, queue, 'a');
  assert.equal(first.fields.redelivered, false);
  channel.nack(first);
  const again = await take(channel, queue, 'a');
  assert.equal(again.fields.redelivered, true);
  channel.ack(again);

  channel.reject(await take(channel, queue, 'b'), false);
  await take(channel, queue, 'c');
  await take(channel, queue, 'd');
  channel.ack(await take(channel, queue, 'e'), true);
  await counts(channel, queue, 0);

  // What is not settled when its channel goes comes back.
  await publishTexts(channel, queue, 'f');
  await session.withChannel((other) => take(other, queue, 'f'));
  await counts(channel, queue, 1);
  const last = await take(channel, queue, 'f');
  assert.equal(last.fields.redelivered, true);
  channel.ack(last);
  const errors = new Inbox();
  channel.on('error', errors.put);
  channel.ack(last);
  const error = await errors.next("the channel's end");
  closedWith(error, 406, `PRECONDITION_FAILED - unknown delivery tag ${last.fields.deliveryTag}`);
}

export async function prefetch(session) {
  for (const limit of [1, 3]) {
    await session.withChannel(async (channel) => {
      const queue = await session.exclusiveQueue(channel, `prefetch-${limit}`);
      await publishTexts(channel, queue, '0', '1', '2', '3', '4', '5');
      await channel.prefetch(limit);
      const { inbox } = await consume(channel, queue);
      const held = [];
      for (let i = 0; i < 6; i++) {
        if (held.length === limit) {
          await counts(channel, queue, 6 - i);
          assert.equal(inbox.length, 0, 'deliveries beyond the limit');
          channel.ack(held.shift());
        }
        held.push(await inbox.nextText(`${i}`));
      }
    });
  }
}

export async function get(session) {
  await session.withChannel(async (channel) => {
    const queue = await session.exclusiveQueue(channel, 'got');
    await publishTexts(channel, queue, 'a', 'b', 'c');
    for (const [i, body] of ['a', 'b', 'c'].entries()) {
      const message = await take(channel, queue, body);
      assert.deepEqual(message.fields, {
        deliveryTag: i + 1,
        redelivered: false,
        exchange: '',
        routingKey: queue,
        messageCount: 2 - i,
      });
      channel.ack(message);
    }
    assert.equal(await channel.get(queue), false);
  });
}

export async function serverSentCancel(session) {
  await session.withChannel(async (channel) => {
    const queue = await session.exclusiveQueue(channel, 'doomed');
    const { inbox } = await consume(channel, queue);
    await session.withChannel((other) => other.deleteQueue(queue));
    assert.equal(await inbox.next('basic.cancel'), null);
  });
}

export async function consumerTags(session) {
  await session.withChannel(async (channel) => {
    const queue = await session.exclusiveQueue(channel, 'tagged');
    const own = await consume(channel, queue, { consumerTag: 'my-tag' });
    assert.equal(own.consumerTag, 'my-tag');
    await publishTexts(channel, queue, 'a');
    assert.equal((await own.inbox.nextText('a')).fields.consumerTag, 'my-tag');
    assert.deepEqual(await channel.cancel('my-tag'), { consumerTag: 'my-tag' });

    const made = await consume(channel, queue);
    assert.match(made.consumerTag, /^amq\.ctag-/);
    await publishTexts(channel, queue, 'b');
    assert.equal((await made.inbox.nextText('b')).fields.consumerTag, made.consumerTag);
  });
}

export async function exclusiveConsumer(session) {
  await session.withChannel(async (channel) => {
    const queue = await session.exclusiveQueue(channel, 'one-consumer');
    await consume(channel, queue, { exclusive: true });
    const other = await session.channel();
    await refused(consume(other, queue), 403, `ACCESS_REFUSED - queue '${queue}' in vhost '/' in exclusive use`);
  });
}

export async function recover(session) {
  await session.withChannel(async (channel) => {
    const queue = await session.exclusiveQueue(channel, 'recovered');
    await publishTexts(channel, queue, 'a', 'b');
    const { inbox } = await consume(channel, queue);
    await inbox.nextText('a');
    await inbox.nextText('b');
    await channel.recover();
    for (const body of ['a', 'b']) {
      const message = await inbox.nextText(body);
      assert.equal(message.fields.redelivered, true);
      channel.ack(message);
    }
  });
}
