//! Blocks of 64 KiB to a segment file and back, through the page cache:
//! `cargo bench -p leveret-store --bench blocks`.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use leveret_broker::names::QueueId;
use leveret_broker::store::Block;
use leveret_store::disk::SystemDisk;
use leveret_store::segments::{SegmentOptions, Segments};

const BLOCK_BYTES: usize = 64 << 10;

/// Blocks that are read in turn: more than a processor's cache holds.
const BLOCKS_READ: u64 = 512;

fn blocks(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SegmentOptions::new(folder.path().join("blocks"));
    let segments = Segments::open(Arc::new(SystemDisk), options).expect("the folder is empty");
    let payload = vec![0x5a; BLOCK_BYTES];
    let queue = QueueId(1);
    let write = |first_position, durable| {
        let block = Block { queue, first_position, count: 1, durable, payload: &[&payload] };
        segments.write(&block).expect("the disk has room")
    };
    let mut group = criterion.benchmark_group("blocks of 64 KiB");
    group.throughput(Throughput::Bytes(BLOCK_BYTES as u64));
    group.bench_function("write temporary", |bencher| {
        bencher.iter(|| segments.free(black_box(write(0, false))));
    });
    group.bench_function("write durable, synced each 8 MiB", |bencher| {
        let mut written = 0_u64;
        bencher.iter(|| {
            segments.free(black_box(write(0, true)));
            written += 1;
            if written.is_multiple_of(1024) {
                segments.remove(&segments.dead()).expect("the files are there");
            }
        });
    });
    let locations: Vec<_> = (0..BLOCKS_READ).map(|position| write(position, false)).collect();
    let mut turn = locations.iter().zip(0..).cycle();
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let (&location, position) = turn.next().expect("a cycle has no end");
            black_box(segments.read(location, queue, position).expect("it was written"));
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    blocks(&mut criterion);
    criterion.final_summary();
}
