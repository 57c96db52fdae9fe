use paas_core::model::{
    AppId, Digest, EnvironmentId, InstanceId, RevisionNumber, Role, ServiceId, Slot, TenantId, Timestamp,
};

use super::super::pod::Output;
use super::*;

fn key() -> WorkloadKey {
    WorkloadKey::new(
        TenantId::new("t-1").unwrap(),
        EnvironmentId::new("e-1").unwrap(),
        AppId::new("a-1").unwrap(),
        ServiceId::new("s-1").unwrap(),
        Role::Slot(Slot::Blue),
    )
}

fn owner(uid: &str, version: u64) -> Part {
    Part {
        kind: Kind::Deployment,
        key: key(),
        namespace: "room".into(),
        name: "s-1-blue".into(),
        uid: uid.into(),
        version,
        applied: Some(Digest::of(&version)),
        epoch: None,
        revisions: vec![(Digest::of(&"template"), RevisionNumber(4))],
        volumes: String::new(),
        secrets: None,
        changed_by: None,
        ending: false,
        ended: None,
    }
}

fn beside(kind: Kind) -> Part {
    Part { kind, ..owner(if kind == Kind::Budget { "b-1" } else { "t-1" }, 1) }
}

/// Knows what stands beside the workload.
fn cache() -> Cache {
    let cache = Cache::default();
    Kind::Deployment.companions().iter().for_each(|kind| cache.put_part(beside(*kind)));
    cache
}

fn pod(uid: &str, version: u64) -> Instance {
    let id = InstanceId::new(uid).unwrap();
    let digest = Digest::of(&"template");
    let mut status = InstanceStatus::new(id, 0, RevisionNumber(0), digest, Timestamp(version));
    status.state = InstanceState::Ready;
    let (namespace, pod) = ("room".into(), uid.into());
    Instance {
        key: key(),
        namespace,
        pod,
        uid: uid.into(),
        version,
        index: None,
        output: Output::None,
        status,
    }
}

fn seen(cache: &Cache) -> Option<WorkloadStatus> {
    cache.list(&Resource::Platform).pop()
}

#[test]
fn what_is_older_than_what_is_known_changes_nothing() {
    let cache = cache();
    cache.put_part(owner("d-1", 7));
    cache.put_part(owner("d-1", 6));
    assert_eq!(seen(&cache).unwrap().applied, Some(Digest::of(&7_u64)));
}

#[test]
fn a_workload_without_what_stands_beside_it_is_not_as_it_was_applied() {
    let cache = cache();
    cache.put_part(owner("d-1", 7));
    let applied = || seen(&cache).map(|status| status.applied);
    assert_eq!(applied(), Some(Some(Digest::of(&7_u64))));
    let change = |version| {
        cache.put_part(Part { changed_by: Some("somebody".into()), version, ..beside(Kind::Budget) });
        applied()
    };
    let changed = [change(2), change(3)];
    assert!(changed.iter().all(|digest| *digest != Some(Some(Digest::of(&7_u64)))));
    assert_ne!(changed[0], changed[1], "each change shows");
    cache.remove_part("d-1", 100);
    cache.remove_part("b-1", 100);
    // What is left of it is there to be removed.
    assert!(matches!(applied(), Some(Some(_))));
    cache.ending("t-1");
    assert_eq!(applied(), Some(None));
    cache.remove_part("t-1", 100);
    assert_eq!(applied(), None);
}

#[test]
fn a_workload_without_the_secrets_that_it_reads_is_not_as_it_was_applied() {
    let cache = cache();
    let held = |version| Part { kind: Kind::Secret, name: "s-1-blue-0a".into(), ..owner("x-1", version) };
    let is_whole = || seen(&cache).unwrap().applied == Some(Digest::of(&7_u64));
    cache.put_part(Part { secrets: Some("s-1-blue-0a".into()), ..owner("d-1", 7) });
    assert!(!is_whole());
    cache.put_part(held(8));
    assert!(is_whole());
    // Those of an earlier template may go.
    cache.put_part(Part { uid: "x-0".into(), name: "s-1-blue-00".into(), ..held(9) });
    cache.remove_part("x-0", 10);
    assert!(is_whole());
    cache.put_part(Part { changed_by: Some("somebody".into()), ..held(11) });
    assert!(!is_whole());
    cache.put_part(held(12));
    cache.remove_part("x-1", 13);
    assert!(!is_whole());
}

#[test]
fn an_instance_keeps_its_ordinal_while_it_lives() {
    let cache = Cache::default();
    cache.put_part(owner("d-1", 1));
    for (uid, version) in [("p-a", 2), ("p-b", 3), ("p-c", 4)] {
        cache.put_instance(pod(uid, version));
    }
    cache.remove_instance("p-b", 100);
    cache.put_instance(pod("p-d", 5));
    cache.put_instance(pod("p-c", 6));
    let instances = seen(&cache).unwrap().instances;
    let ordinals: Vec<_> = instances.iter().map(|i| (i.id.as_str(), i.ordinal, i.revision.0)).collect();
    assert_eq!(ordinals, [("p-a", 0, 4), ("p-d", 1, 4), ("p-c", 2, 4)]);
}

#[test]
fn what_we_deleted_stays_deleted_whatever_is_still_told_of_it() {
    let cache = Cache::default();
    cache.put_part(owner("d-1", 1));
    cache.put_instance(pod("p-a", 2));
    cache.ending("d-1");
    cache.put_part(owner("d-1", 3));
    let status = seen(&cache).unwrap();
    assert_eq!((status.applied, status.instances[0].state), (None, InstanceState::Stopping));
    // Another one of the same name is another one.
    cache.put_part(owner("d-2", 5));
    cache.remove_part("d-1", 100);
    assert!(seen(&cache).unwrap().applied.is_some());
    cache.remove_part("d-2", 100);
    cache.remove_instance("p-a", 100);
    assert_eq!(seen(&cache), None);
}

#[test]
fn a_complete_list_drops_what_it_lacks_and_is_not_newer() {
    let cache = Cache::default();
    cache.put_part(owner("d-1", 1));
    cache.put_instance(pod("p-a", 2));
    cache.put_instance(pod("p-b", 9));
    cache.keep_instances(&HashSet::new(), 5);
    assert_eq!(seen(&cache).unwrap().instances.len(), 1);
    cache.keep_parts(Kind::Job, &HashSet::new(), 5);
    assert!(seen(&cache).unwrap().applied.is_some());
    cache.keep_parts(Kind::Deployment, &HashSet::new(), 5);
    assert_eq!(seen(&cache).unwrap().applied, None);
}

#[test]
fn what_is_marked_as_another_workloads_is_that_ones() {
    let cache = cache();
    cache.put_part(owner("d-1", 7));
    cache.put_instance(pod("p-a", 2));
    let mut other = key();
    other.app = AppId::new("a-2").unwrap();
    let of = |key: &WorkloadKey| {
        let mut listed = cache.list(&key.resource());
        listed.retain(|status| status.key == *key);
        listed.pop().map(|status| (status.instances.len(), status.applied))
    };
    cache.put_instance(Instance { key: other.clone(), ..pod("p-a", 8) });
    cache.put_part(Part { key: other.clone(), ..owner("d-1", 9) });
    assert_eq!((of(&other).unwrap().0, of(&key()).unwrap().0), (1, 0));
    assert_ne!(of(&key()).unwrap().1, Some(Digest::of(&7_u64)));
    cache.put_part(owner("d-1", 10));
    cache.put_instance(pod("p-a", 11));
    assert_eq!((of(&other), of(&key())), (None, Some((1, Some(Digest::of(&10_u64))))));
    assert_eq!(cache.state().apps.len(), 1);
}

#[test]
fn what_was_made_anew_takes_the_place_of_what_a_list_lacks() {
    let cache = cache();
    cache.put_part(owner("d-1", 1));
    cache.put_part(Part { changed_by: Some("somebody".into()), ..owner("d-2", 8) });
    cache.keep_parts(Kind::Deployment, &HashSet::from(["d-2".to_owned()]), 9);
    assert_ne!(seen(&cache).unwrap().applied, Some(Digest::of(&8_u64)));
    cache.put_part(owner("d-2", 10));
    assert_eq!(seen(&cache).unwrap().applied, Some(Digest::of(&10_u64)));
    cache.warn(Warning { at: Timestamp(20), ..refused(20) });
    assert_eq!(seen(&cache).unwrap().message.as_deref(), Some("exceeded quota"));
}

fn refused(at: u64) -> Warning {
    let subject = Subject::Owner { namespace: "room".into(), name: owner("d-1", 1).name };
    Warning { subject, text: "exceeded quota".into(), at: Timestamp(at), is_about_pulling: false }
}

#[test]
fn a_refusal_to_make_instances_is_told_until_one_could_be_made() {
    let cache = Cache::default();
    cache.warn(refused(4)); // of nothing that is known
    cache.put_part(owner("d-1", 1));
    assert_eq!(seen(&cache).unwrap().message, None);
    cache.warn(refused(4));
    assert_eq!(seen(&cache).unwrap().message.as_deref(), Some("exceeded quota"));
    cache.put_instance(pod("p-a", 5));
    assert_eq!(seen(&cache).unwrap().message, None);
    cache.warn(refused(4)); // told late
    assert_eq!(seen(&cache).unwrap().message, None);
    cache.warn(refused(5)); // another could not be made
    assert_eq!(seen(&cache).unwrap().message.as_deref(), Some("exceeded quota"));
    cache.remove_part("d-1", 100);
    assert_eq!((seen(&cache).unwrap().message, cache.state().warnings.len()), (None, 0));
    assert!(cache.state().places.is_empty());
}

#[test]
fn a_secret_that_is_missing_is_told_where_an_image_is_not_pulled() {
    let cache = Cache::default();
    cache.put_part(owner("d-1", 1));
    let subject = Subject::Pod("p-a".into());
    let missing = Warning { subject, text: "no secret".into(), at: Timestamp(1), is_about_pulling: true };
    let mut version = 1;
    let mut told = |own: Option<&str>| {
        version += 1;
        let mut waiting = pod("p-a", version);
        waiting.status.state = InstanceState::BackingOff;
        waiting.status.message = own.map(str::to_owned);
        cache.put_instance(waiting);
        cache.warn(missing.clone());
        seen(&cache).unwrap().instances[0].message.clone()
    };
    assert_eq!(told(Some("ErrImagePull: 401")).unwrap(), "ErrImagePull: 401; no secret");
    assert_eq!(told(Some("ImagePullBackOff: 401")).unwrap(), "ImagePullBackOff: 401; no secret");
    // Whatever this comes from, the image was there.
    assert_eq!(told(Some("RunContainerError: no")).unwrap(), "RunContainerError: no");
    assert_eq!(told(None), None);
}

#[test]
fn a_probes_answer_is_told_while_its_instance_is_not_ready() {
    let cache = Cache::default();
    let with = |version, state| {
        let mut pod = pod("p-a", version);
        pod.status.state = state;
        pod
    };
    let warning = |text: &str, at| Warning {
        subject: Subject::Pod("p-a".into()),
        text: text.into(),
        at: Timestamp(at),
        is_about_pulling: false,
    };
    let said = || seen(&cache).unwrap().instances[0].message.clone();
    cache.put_part(owner("d-1", 1));
    cache.put_instance(with(2, InstanceState::Starting));
    cache.warn(warning("statuscode: 503", 20));
    cache.warn(warning("older", 10));
    assert_eq!(said().as_deref(), Some("statuscode: 503"));
    cache.put_instance(with(3, InstanceState::Ready));
    assert_eq!(said(), None);
    cache.put_instance(with(4, InstanceState::Unready));
    assert_eq!(said(), None);
    // The answer comes before what follows from it.
    cache.put_instance(with(5, InstanceState::Ready));
    cache.warn(warning("statuscode: 500", 30));
    assert_eq!(said(), None);
    cache.put_instance(with(6, InstanceState::Unready));
    assert_eq!(said().as_deref(), Some("statuscode: 500"));
    cache.remove_instance("p-a", 100);
    assert!(cache.state().warnings.is_empty());
}

#[test]
fn a_task_whose_pod_is_gone_has_failed_all_the_same() {
    let cache = Cache::default();
    let ended = Some(paas_core::model::Exit::with_reason("BackoffLimitExceeded", Timestamp(9)));
    cache.put_part(Part { kind: Kind::Job, ended, ..owner("j-1", 1) });
    let instances = seen(&cache).unwrap().instances;
    assert_eq!((instances.len(), instances[0].state), (1, InstanceState::Exited));
    assert!(instances[0].last_exit.as_ref().is_some_and(|exit| !exit.is_success()));
    cache.put_instance(pod("p-a", 2));
    assert_eq!(seen(&cache).unwrap().instances.len(), 1);
}
