import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import amqp from 'amqplib';
import { Inbox, closedWith, publishTexts, refused, take } from './session.js';

// A shorter one would fail on a machine that is merely busy.
const HEARTBEAT_SECONDS = 2;

export async function channelErrors(session) {
  const missing = session.name('missing');
  let channel = await session.channel();
  await refused(channel.checkQueue(missing), 404, `NOT_FOUND - no queue '${missing}' in vhost '/'`);

  channel = await session.channel();
  const { queue } = await channel.assertQueue(session.name('durable'));
  await refused(
    channel.assertQueue(queue, { durable: false }),
    406,
    `PRECONDITION_FAILED - inequivalent arg 'durable' for queue '${queue}' in vhost '/': ` +
      "received 'false' but current is 'true'",
  );

  // An error of a publish comes later, on its own.
  channel = await session.channel();
  const errors = new Inbox();
  channel.on('error', errors.put);
  channel.publish(missing, '', Buffer.from('nowhere'));
  closedWith(await errors.next("the channel's end"), 404, `NOT_FOUND - no exchange '${missing}' in vhost '/'`);

  // The connection goes on.
  await session.withChannel((next) => next.deleteQueue(queue));
}

export async function wrongPassword(session) {
  const text =
    'ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.';
  await assert.rejects(amqp.connect(session.uri.replace('guest:guest', 'guest:wrong')), {
    message: `Handshake terminated by server: 403 (ACCESS-REFUSED) with message "${text}"`,
  });
}

export async function heartbeats(session) {
  const connection = await amqp.connect(`${session.uri}?heartbeat=${HEARTBEAT_SECONDS}`);
  assert.equal(connection.connection.heartbeat, HEARTBEAT_SECONDS);
  const ends = new Inbox();
  connection.on('error', ends.put);
  connection.on('close', ends.put);
  await delay(HEARTBEAT_SECONDS * 3500);
  assert.equal(ends.length, 0, 'expected heartbeats to keep the connection');
  const channel = await connection.createConfirmChannel();
  const queue = await session.exclusiveQueue(channel, 'after-idle');
  await publishTexts(channel, queue, 'still here');
  await take(channel, queue, 'still here');
  await connection.close();
}
