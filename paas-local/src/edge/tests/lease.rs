//! The promise below draining, on threads of their own: once an endpoint was seen closed with nothing open, nobody
//! begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::edge::balance::Pick;
use crate::edge::route::{EndpointRule, Route, SlotName, SlotRule};
use crate::edge::table::{Runtime, Service, Table, Tables};
use crate::edge::usage::Kind;

fn compile(runtime: &Arc<Runtime>, ids: &[u16]) -> Service {
    let mut route = Route::new("app");
    let endpoint = |id: &u16| EndpointRule { id: id.to_string(), addr: ([127, 0, 0, 1], *id).into() };
    let endpoints = ids.iter().map(endpoint).collect();
    route.slots.push(SlotRule { slot: SlotName::Blue, revision: 1, weight: 1, endpoints });
    Service::compile(&route, runtime).unwrap()
}

#[test]
fn nothing_begins_on_an_endpoint_that_was_seen_drained() {
    const ROUNDS: u16 = 5_000;
    let (events, _) = tokio::sync::broadcast::channel(16);
    let id: Arc<str> = "app".into();
    let runtime = Arc::new(Runtime::new(id.clone(), events));
    let tables = Tables::default();
    let publish = |ids: &[u16]| {
        let old = tables.with(Arc::clone);
        let table = Arc::new(old.with(&id, Some(compile(&runtime, ids))).unwrap());
        tables.publish(&table, std::slice::from_ref(&runtime));
    };
    publish(&[1]);
    // The endpoint that is drained for good, and all below it.
    let (drained, stop, begun) = (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let floor = drained.load(Ordering::SeqCst);
                    let service = tables.with(|table: &Arc<Table>| table.services[&id].clone());
                    match service.slots[0].lease(Kind::Request, &[]) {
                        Pick::Lease(lease) => {
                            let endpoint: u64 = lease.endpoint().id.parse().unwrap();
                            assert!(endpoint > floor, "{endpoint} began after {floor} was drained");
                            assert!(endpoint > drained.load(Ordering::SeqCst), "drained while open");
                            begun.fetch_add(1, Ordering::Relaxed);
                        }
                        Pick::Stale => {}
                        Pick::Empty => panic!("there is always an endpoint"),
                    }
                }
            });
        }
        for round in 1..ROUNDS {
            publish(&[round, round + 1]);
            let old = runtime.all_endpoints().into_iter().find(|e| *e.id == *round.to_string()).unwrap();
            publish(&[round + 1]);
            while !old.is_drained() {
                std::hint::spin_loop();
            }
            drained.store(u64::from(round), Ordering::SeqCst);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(begun.load(Ordering::Relaxed) > 0);
    assert!(runtime.all_endpoints().len() <= 2, "drained endpoints are forgotten");
}
