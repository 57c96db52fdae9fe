use std::time::Duration;

use paas_core::model::{
    AppId, AppName, ByteSize, CpuQuantity, EnvironmentId, EnvironmentName, OperationId, Restart, Role,
    ServiceId, ServiceName, Slot, TenantId, TenantName, VolumeName, WorkloadKey, WorkloadLabels,
};

use super::*;
use crate::golden;

fn workload(role: Role) -> Workload {
    let key = WorkloadKey::new(
        TenantId::new("t-1").unwrap(),
        EnvironmentId::new("e-1").unwrap(),
        AppId::new("a-1").unwrap(),
        ServiceId::new("s-1").unwrap(),
        role,
    );
    let labels = WorkloadLabels::new(
        TenantName::new("acme").unwrap(),
        EnvironmentName::new("production").unwrap(),
        AppName::new("shop").unwrap(),
        ServiceName::new("web").unwrap(),
    );
    let mut template = Template::new(vec![Source::Image("registry.example.com/shop:1".into())]);
    template.port = Some(8080);
    template.ready = Some("/ready".parse().unwrap());
    template.limits.cpu = Some(CpuQuantity { millis: 500 });
    template.limits.memory = Some(ByteSize(64 << 20));
    template.env.insert("LOG".into(), "info $(HOME)".into());
    Workload::new(key, labels, RevisionNumber(3), template, 2)
}

fn blue() -> Workload {
    workload(Role::Slot(Slot::Blue))
}

fn rendered(workload: &Workload, known: Option<&Part>) -> Value {
    let config = SchedulerConfig::default();
    let context = Context { platform: "paas", config: &config, secret: Some("values"), known };
    owner(workload, &context).unwrap()
}

/// All that a service and a task come to, compared as a whole.
#[test]
fn the_objects_are_as_they_were() {
    let mut stateful = blue();
    stateful.template.mounts.push(Mount::new(VolumeName::new("data").unwrap(), None, ByteSize(1 << 30)));
    stateful.template.live = Some("tcp".parse().unwrap());
    let mut task = workload(Role::Task(OperationId::new("o-1").unwrap()));
    task.template.command = Some("migrate --db $DB_URL '$$(x)'".parse().unwrap());
    task.template.restart = Restart::Never;
    task.template.port = None;
    task.template.ready = None;
    let mut objects = vec![rendered(&blue(), None), rendered(&stateful, None), rendered(&task, None)];
    let beside = |workload: &Workload| {
        let kinds = kind(workload).companions().iter();
        kinds.map(|kind| companion(*kind, &workload.key, "paas").0).collect::<Vec<_>>()
    };
    objects.extend(beside(&blue()).into_iter().chain(beside(&task)));
    assert_eq!(crate::policy::check(&objects).unwrap(), []);
    golden::check("scheduler/manifest/golden.json", &objects);
}

#[test]
fn images_are_pulled_with_the_secrets_that_the_company_names() {
    let config = SchedulerConfig { pull_secrets: vec!["one".into(), "two".into()], ..Default::default() };
    let context = Context { platform: "paas", config: &config, secret: None, known: None };
    for role in [Role::Slot(Slot::Blue), Role::Task(OperationId::new("o-1").unwrap())] {
        let object = owner(&workload(role), &context).unwrap();
        let named = &object["spec"]["template"]["spec"]["imagePullSecrets"];
        assert_eq!(*named, json!([{ "name": "one" }, { "name": "two" }]));
    }
}

#[test]
fn a_new_revision_of_the_same_template_changes_no_pod() {
    let before = rendered(&blue(), None);
    let mut later = blue();
    later.revision = RevisionNumber(9);
    let after = rendered(&later, None);
    assert_eq!(before["spec"], after["spec"]);
    assert_ne!(before["metadata"], after["metadata"]);
}

#[test]
fn the_revisions_of_the_last_templates_are_remembered() {
    let known = Part {
        name: "s-1-blue".into(),
        kind: Kind::Deployment,
        key: blue().key,
        namespace: "room".into(),
        uid: "u-1".into(),
        version: 42,
        applied: None,
        epoch: None,
        revisions: (1..9).map(|number| (Digest::of(&number), RevisionNumber(number))).collect(),
        volumes: String::new(),
        secrets: None,
        changed_by: None,
        ending: false,
        ended: None,
    };
    let object = rendered(&blue(), Some(&known));
    let revisions: Vec<(Digest, RevisionNumber)> =
        serde_json::from_str(object["metadata"]["annotations"][REVISIONS].as_str().unwrap()).unwrap();
    assert_eq!(revisions.len(), REMEMBERED);
    assert_eq!(revisions.last().unwrap(), &(blue().template.digest(), RevisionNumber(3)));
}

#[test]
fn a_count_that_belongs_to_somebody_else_is_left_out() {
    let mut scaled = blue();
    scaled.replicas = None;
    assert!(rendered(&scaled, None)["spec"].get("replicas").is_none());
}

#[test]
fn text_that_only_looks_like_a_reference_stays_text() {
    let command = Command::new(["run", "a${DB}.b", "$$(HOME)", "p$$$$w"]).unwrap();
    assert_eq!(arguments(&command).unwrap(), ["run", "a$(DB).b", "$$(HOME)", "p$$$$w"]);
    assert_eq!(literal("pa$$word $(HOME)"), "pa$$$$word $$(HOME)");
}

#[test]
fn a_grace_is_whole_seconds_after_the_drain() {
    let mut hasty = blue();
    hasty.template.grace = Duration::from_millis(1_200);
    assert_eq!(rendered(&hasty, None)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"], 12);
}
