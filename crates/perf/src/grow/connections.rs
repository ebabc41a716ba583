//! Rows about connections and channels: memory of idle ones, rates of opening and closing.

use std::thread;

use leveret_codec::method::{Method, MethodId, channel};

use crate::client::Client;
use crate::error::Error;
use crate::grow::Grow;
use crate::probe::{Figure, given_back, mebibytes, memory_each};

/// Threads that open connections; the generator must not be what is waited for.
const OPENERS: usize = 8;
/// Channels that are opened and closed in one go when pipelined.
const CHANNEL_BATCH: u16 = 100;

/// Resident memory before anything else.
pub(super) fn at_start(grow: &Grow) -> Result<Vec<Figure>, Error> {
    Ok(mebibytes("resident", grow.probe.settled()?).into_iter().collect())
}

/// Memory of idle connections and channels, and whether it comes back.
pub(super) fn memory(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let (count, further) = (grow.args.connections, grow.args.channels);
    let before = grow.probe.settled()?;
    let mut clients = open_many(grow, count)?;
    let connected = grow.probe.settled()?;
    for client in &mut clients {
        for number in 2..2 + further {
            client.push(number, &Method::ChannelOpen(channel::Open {}));
        }
        client.flush("opening channels")?;
        client.expect_all(MethodId::CHANNEL_OPEN_OK, usize::from(further), "opening channels")?;
    }
    let channels = grow.probe.settled()?;
    close_many(clients)?;
    let after = grow.probe.settled()?;
    let what = format!("memory of an idle connection with a channel ({count})");
    let figures = [
        memory_each(&what, before, connected, count),
        memory_each("memory of a further channel", connected, channels, count * usize::from(further)),
        given_back("given back after they close", [before, channels, after]),
    ];
    Ok(figures.into_iter().flatten().collect())
}

/// Connection and channel opened, connection closed, by several threads at once.
pub(super) fn open_close(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let each = grow.args.opens.div_ceil(OPENERS);
    let cycle = || (0..each).try_for_each(|_| grow.connect_with_channel()?.close());
    let ((), step) = grow.probe.measure(|| {
        thread::scope(|scope| {
            let openers: Vec<_> = (0..OPENERS).map(|_| scope.spawn(cycle)).collect();
            openers.into_iter().try_for_each(|opener| opener.join().unwrap_or_else(|_| Err(panicked())))
        })
    })?;
    let what = format!("open and close a connection with a channel ({OPENERS} at a time)");
    Ok(step.figures(&what, each * OPENERS))
}

/// Channels opened and closed, each answer waited for, and a hundred at a time.
pub(super) fn channel_open_close(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let mut client = grow.connect()?;
    let cycles = grow.args.channel_cycles;
    let ((), sequential) = grow.probe.measure(|| {
        (0..cycles).try_for_each(|_| {
            client.open_channel(1)?;
            let doing = "closing a channel";
            client.call(1, &close_channel(), MethodId::CHANNEL_CLOSE_OK, doing)
        })
    })?;
    let batches = cycles.div_ceil(usize::from(CHANNEL_BATCH));
    let ((), pipelined) = grow.probe.measure(|| {
        (0..batches).try_for_each(|_| {
            for number in 1..=CHANNEL_BATCH {
                client.push(number, &Method::ChannelOpen(channel::Open {}));
                client.push(number, &close_channel());
            }
            client.flush("opening channels")?;
            client.expect_all(MethodId::CHANNEL_CLOSE_OK, usize::from(CHANNEL_BATCH), "closing channels")
        })
    })?;
    client.close()?;
    let mut figures = sequential.figures("open and close a channel, two round trips", cycles);
    let pipelined_cycles = batches * usize::from(CHANNEL_BATCH);
    figures.extend(pipelined.figures("open and close a channel, pipelined", pipelined_cycles));
    Ok(figures)
}

/// Many idle connections: how long until all are there.
pub(super) fn idle(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let count = grow.args.idle;
    let before = grow.probe.settled()?;
    let (clients, step) = grow.probe.measure(|| open_many(grow, count))?;
    let open = grow.probe.settled()?;
    close_many(clients)?;
    let after = grow.probe.settled()?;
    let mut figures = vec![Figure::new(&format!("time to open {count} connections"), step.seconds, "s")];
    figures.extend(step.figures("open a connection with a channel", count));
    figures.extend(memory_each("memory of one of them", before, open, count));
    figures.extend(given_back("given back after they close", [before, open, after]));
    Ok(figures)
}

fn open_many(grow: &Grow, count: usize) -> Result<Vec<Client>, Error> {
    thread::scope(|scope| {
        let share = |opener: usize| count / OPENERS + usize::from(opener < count % OPENERS);
        let open = |share: usize| (0..share).map(|_| grow.connect_with_channel()).collect();
        let openers: Vec<_> = (0..OPENERS).map(|opener| scope.spawn(move || open(share(opener)))).collect();
        let mut clients = Vec::with_capacity(count);
        for opener in openers {
            let opened: Result<Vec<Client>, Error> = opener.join().unwrap_or_else(|_| Err(panicked()));
            clients.append(&mut opened?);
        }
        Ok(clients)
    })
}

fn close_many(clients: Vec<Client>) -> Result<(), Error> {
    clients.into_iter().try_for_each(Client::close)
}

fn close_channel() -> Method<'static> {
    let (reply_code, reply_text) = (200, "OK");
    Method::ChannelClose(channel::Close { reply_code, reply_text, class_id: 0, method_id: 0 })
}

fn panicked() -> Error {
    Error::Protocol("a thread panicked".to_owned())
}
