import assert from 'node:assert/strict';
import amqp from 'amqplib';

// How long anything that must happen may take.
const PATIENCE_MS = 10_000;

// What the steps share: one connection, and a prefix that no other run uses for its names.
export class Session {
  static async open(uri, run) {
    return new Session(uri, run, await amqp.connect(uri));
  }

  constructor(uri, run, connection) {
    this.uri = uri;
    this.run = run;
    this.connection = connection;
  }

  // A queue's or exchange's name of this run.
  name(what) {
    return `${this.run}.${what}`;
  }

  // All channels are confirm channels; a step closes its own.
  async channel() {
    const channel = await this.connection.createConfirmChannel();
    // What closes a channel also rejects the pending call: it is looked at there.
    channel.on('error', () => {});
    return channel;
  }

  // Runs `use` with a channel, and closes it.
  async withChannel(use) {
    const channel = await this.channel();
    await use(channel);
    await channel.close();
  }

  // Declares an exclusive queue, which goes with the connection.
  async exclusiveQueue(channel, what) {
    const { queue } = await channel.assertQueue(this.name(what), { exclusive: true, durable: false });
    return queue;
  }
}

// What events bring, to be awaited one by one.
export class Inbox {
  #arrived = [];
  #waiting = null;

  put = (value) => {
    this.#arrived.push(value);
    this.#waiting?.();
  };

  get length() {
    return this.#arrived.length;
  }

  async next(what) {
    if (this.#arrived.length === 0) {
      await new Promise((resolve, reject) => {
        const late = setTimeout(() => reject(new Error(`expected ${what} in ${PATIENCE_MS} ms`)), PATIENCE_MS);
        this.#waiting = () => {
          clearTimeout(late);
          resolve();
        };
      });
      this.#waiting = null;
    }
    return this.#arrived.shift();
  }

  // The next delivery, which must have this body.
  async nextText(body) {
    const message = await this.next(`a delivery of ${body}`);
    assert.equal(message.content.toString(), body);
    return message;
  }
}

// Publishes a message and waits until the broker has confirmed it.
export async function publish(channel, exchange, key, body, options) {
  channel.publish(exchange, key, Buffer.from(body), options);
  await channel.waitForConfirms();
}

export async function publishTexts(channel, queue, ...texts) {
  for (const body of texts) {
    await publish(channel, '', queue, body);
  }
}

// Starts a consumer that acknowledges by hand.
export async function consume(channel, queue, options) {
  const inbox = new Inbox();
  const { consumerTag } = await channel.consume(queue, inbox.put, options);
  return { inbox, consumerTag };
}

// Takes a message with this body off the queue, unacknowledged.
export async function take(channel, queue, body) {
  const message = await channel.get(queue);
  assert.ok(message, `expected a message ${body} in the queue`);
  assert.equal(message.content.toString(), body);
  return message;
}

// Asks the broker for the ready messages of a queue.
export async function counts(channel, queue, messages) {
  const { messageCount } = await channel.checkQueue(queue);
  assert.equal(messageCount, messages, `messages in ${queue}`);
}

// Checks that the operation is refused with this reply code and text.
export async function refused(operation, code, text) {
  await assert.rejects(operation, (error) => closedWith(error, code, text));
}

export function closedWith(error, code, text) {
  assert.equal(error.code, code, error.message);
  assert.ok(error.message.endsWith(`with message "${text}"`), `expected ${text}, got ${error.message}`);
  return true;
}
