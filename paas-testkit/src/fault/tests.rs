use std::sync::atomic::{AtomicBool, Ordering};

use paas_core::ErrorKind;
use paas_core::memory::MemoryStateStore;
use paas_core::model::{Key, RecordKind};
use paas_core::port::{Expected, StateStore};

use super::*;
use crate::World;

const KIND: RecordKind = RecordKind::new("fault");

struct Bed {
    faults: Faults,
    memory: MemoryStateStore,
    store: Faulty<MemoryStateStore>,
    key: Key,
    world: World,
}

fn bed() -> Bed {
    let (faults, memory) = (Faults::none(), MemoryStateStore::new());
    let store = Faulty::new(Arc::new(faults.clone()), Arc::new(memory.clone()));
    Bed { faults, memory, store, key: Key::new(KIND, None, "a").unwrap(), world: World::new() }
}

impl Bed {
    async fn put(&self) -> Result<()> {
        let scope = self.world.platform();
        let put = self.store.put(&scope, &self.key, "x".into(), Expected::Absent);
        let put = tokio::time::timeout(Duration::from_secs(60), put).await;
        put.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no answer"))).map(drop)
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_before_leaves_no_trace_and_one_after_does() {
    let bed = bed();
    bed.faults.strike("state_store", "put", 1, Fault::Before(Error::unavailable("x")));
    bed.put().await.unwrap_err();
    assert_eq!(bed.memory.writes(), 0);
    bed.faults.strike("state_store", "put", 1, Fault::After(Error::unavailable("x")));
    bed.put().await.unwrap_err();
    assert_eq!(bed.memory.writes(), 1);
    assert_eq!(bed.faults.struck(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_no_answer_whether_it_happened_or_not() {
    for (fault, writes) in [(Fault::Never, 0), (Fault::NeverAfter, 1)] {
        let bed = bed();
        bed.faults.strike("state_store", "put", 1, fault);
        assert_eq!(bed.put().await.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(bed.memory.writes(), writes);
    }
}

#[tokio::test(start_paused = true)]
async fn the_nth_call_meets_its_fault_and_others_do_not() {
    let bed = bed();
    bed.faults.strike("state_store", "get", 2, Fault::Before(Error::unavailable("x")));
    let scope = bed.world.platform();
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        outcomes.push(bed.store.get(&scope, &bed.key).await.is_ok());
    }
    assert_eq!(outcomes, [true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_crash_tells_the_plan() {
    #[derive(Default)]
    struct Plan(AtomicBool);
    impl FaultPlan for Plan {
        fn decide(&self, _: &'static str, _: &'static str) -> Fault {
            Fault::CrashAfter
        }
        fn crashed(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let plan = Arc::new(Plan::default());
    let mut bed = bed();
    bed.store = Faulty::new(plan.clone(), Arc::new(bed.memory.clone()));
    bed.put().await.unwrap_err();
    assert!(plan.0.load(Ordering::Relaxed));
    assert_eq!(bed.memory.writes(), 1);
}

#[test]
fn a_seed_repeats_its_faults_and_follows_its_rate() {
    let strikes = |seed| -> Vec<bool> {
        let faults = Faults::seeded(seed, 100);
        (0..10_000).map(|_| !matches!(faults.decide("scheduler", "apply"), Fault::None)).collect()
    };
    assert_eq!(strikes(1), strikes(1));
    assert_ne!(strikes(1), strikes(2));
    let struck = strikes(1).into_iter().filter(|struck| *struck).count();
    assert!((850..1_150).contains(&struck), "{struck}");
}
